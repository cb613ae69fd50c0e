// Rules on vectors that several threads update at once: the elements that a rule writes are read and written
// atomically, in no order. The rule runs on copies. "racy" stores the results, so an update in between is
// lost; "exact" uses compare-exchange, and where another thread was faster adds the rule's change to the new
// value.
#include <atomic>

#include "cpu/each.hpp"

namespace loosestep {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;

template <class T> void racy_store(std::atomic_ref<T> x, T /*before*/, T after) { x.store(after, relaxed); }

template <class T> void exact_store(std::atomic_ref<T> x, T before, T after) {
  const T change = after - before;
  while (!x.compare_exchange_weak(before, after, relaxed)) after = before + change;
}

// Load one argument of a rule, atomically if the rule takes a reference and so writes it.
template <class A, class T> T taken(T* x) {
  if constexpr (std::is_reference_v<A>)
    return std::atomic_ref<T>(*x).load(relaxed);
  else
    return *x;
}

template <class A, class T, auto store> void put(T* x, T before, T after) {
  if constexpr (std::is_reference_v<A>) store(std::atomic_ref<T>(*x), before, after);
}

template <class R, class T, auto store, class... A, int... I>
void spread_shared(Types<A...>, const R& rule, void* const* buffers, std::size_t begin, std::size_t end,
                   Indices<I...>) {
  T* const at[] = {static_cast<T*>(buffers[I])...};
  for (std::size_t i = begin; i < end; ++i) {
    const T before[] = {taken<A>(at[I] + i)...};
    T after[] = {before[I]...};
    rule(after[I]...);
    (put<A, T, store>(at[I] + i, before[I], after[I]), ...);
  }
}

template <class R, class T, auto store>
void each_shared(const double* scalars, void* const* buffers, std::size_t begin, std::size_t end, bool) {
  spread_shared<R, T, store>(typename Arguments<R>::types{}, made<R, T>(scalars), buffers, begin, end,
                             Count<Arguments<R>::count>{});
}

template <class T>
void snapshot(const double*, void* const* buffers, std::size_t begin, std::size_t end, bool) {
  T *shared = static_cast<T*>(buffers[0]), *out = static_cast<T*>(buffers[1]);
  for (std::size_t i = begin; i < end; ++i) out[i] = std::atomic_ref<T>(shared[i]).load(relaxed);
}

template <template <class> class... R> constexpr Updates exact_updates(List<R...>) {
  return {"exact",
          {{each_shared<R<float>, float, exact_store<float>>,
            each_shared<R<double>, double, exact_store<double>>}...}};
}

template <template <class> class... R> constexpr Updates racy_updates(List<R...>) {
  return {"racy",
          {{each_shared<R<float>, float, racy_store<float>>,
            each_shared<R<double>, double, racy_store<double>>}...}};
}

}  // namespace

constexpr Updates exact = exact_updates(Shared{});
constexpr Updates racy = racy_updates(Shared{});
constexpr Kernel load[dtypes] = {snapshot<float>, snapshot<double>};

}  // namespace loosestep
