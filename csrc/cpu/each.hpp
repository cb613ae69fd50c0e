// From a rule to a loop over buffers. Included by files that are compiled once per instruction set, hence
// the anonymous namespace: no symbol here may be shared between them.
#pragma once
#include <cstddef>
#include <type_traits>
#include <utility>

#include "cpu/kernels.hpp"
#include "cpu/stream_out.hpp"

#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace loosestep {
namespace {

template <class... A> struct Types {};

// A rule's buffers, from the types of its arguments. (Its operator's type only: with an address taken, a copy
// of the operator would be left for the linker.)
template <class R> struct Arguments : Arguments<decltype(&R::operator())> {};
template <class R, class... A> struct Arguments<void (R::*)(A...) const> {
  using types = Types<A...>;
  static constexpr int count = sizeof...(A);
  static constexpr unsigned written() {
    unsigned mask = 0, bit = 1;
    ((mask |= std::is_reference_v<A> ? bit : 0, bit <<= 1), ...);
    return mask;
  }
};

template <class R, class = void> struct HasFrom : std::false_type {};
template <class R> struct HasFrom<R, std::void_t<decltype(R::from(nullptr))>> : std::true_type {};

template <class R, class T, std::size_t... I> HD R fields(const double* scalars, std::index_sequence<I...>) {
  return R{T(scalars[I])...};
}

// Scalars are rounded to the buffers' type here, once.
template <class R, class T> HD R made([[maybe_unused]] const double* scalars) {
  if constexpr (HasFrom<R>::value)
    return R::from(scalars);
  else if constexpr (std::is_empty_v<R>)
    return R{};
  else
    return fields<R, T>(scalars, std::make_index_sequence<sizeof(R) / sizeof(T)>{});
}

template <class R, class... P> HD void loop(const R& rule, std::size_t begin, std::size_t end, P*... p) {
  INDEPENDENT
  for (std::size_t i = begin; i < end; ++i) rule(p[i]...);
}

template <class A, class T> using Pointee = std::conditional_t<std::is_reference_v<A>, T, const T>;

template <class R, class T, class... A, std::size_t... I>
HD void spread(Types<A...>, const R& rule, void* const* buffers, std::size_t begin, std::size_t end,
               std::index_sequence<I...>) {
  loop(rule, begin, end, static_cast<Pointee<A, T>*>(buffers[I])...);
}

// Rules that only write their last buffer say so.
template <class R, class = void> struct OnlyWrites : std::false_type {};
template <class R> struct OnlyWrites<R, std::void_t<decltype(R::only_writes)>> : std::true_type {};

// A line at a time: made in registers, stored past the caches. The ends of out that are no whole line are
// stored.
template <class R, class T, class... P>
HD void streaming_loop(const R& rule, std::size_t begin, std::size_t end, T* out, const P*... p) {
  constexpr std::size_t line = line_bytes / sizeof(T);
  std::size_t i = begin;
  for (; i < end && !starts_line(out + i); ++i) rule(p[i]..., out[i]);
  for (; i + line <= end; i += line) {
    alignas(64) T made[line];
    for (std::size_t j = 0; j < line; ++j) rule(p[i + j]..., made[j]);
    stream_line(out + i, made);
  }
  for (; i < end; ++i) rule(p[i]..., out[i]);
  settle();
}

template <class R, class T, std::size_t... I>
HD void spread_streaming(const R& rule, void* const* buffers, std::size_t begin, std::size_t end,
                         std::index_sequence<I...>) {
  streaming_loop(rule, begin, end, static_cast<T*>(buffers[sizeof...(I)]),
                 static_cast<const T*>(buffers[I])...);
}

// Whether the last buffer is none of those before it: one that is read anyway is stored to as usual.
HD bool apart(void* const* buffers, int count) {
  for (int i = 0; i + 1 < count; ++i)
    if (buffers[i] == buffers[count - 1]) return false;
  return true;
}

template <class R, class T>
void each(const double* scalars, void* const* buffers, std::size_t begin, std::size_t end, bool large) {
  constexpr int count = Arguments<R>::count;
  if constexpr (OnlyWrites<R>::value)
    if (large && apart(buffers, count))
      return spread_streaming<R, T>(made<R, T>(scalars), buffers, begin, end,
                                    std::make_index_sequence<count - 1>{});
  spread<R, T>(typename Arguments<R>::types{}, made<R, T>(scalars), buffers, begin, end,
               std::make_index_sequence<count>{});
}

}  // namespace
}  // namespace loosestep
