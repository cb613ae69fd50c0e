// Makes a loop over buffers of a rule. Included by files that are compiled once per instruction set, hence
// the anonymous namespace: they must not share a symbol.
#pragma once
#include <cstddef>
#include <type_traits>

#include "cpu/kernels.hpp"
#include "cpu/stream_out.hpp"
#include "rules/arguments.hpp"

#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace loosestep {
namespace {

template <class R, class... P> HD void loop(const R& rule, std::size_t begin, std::size_t end, P*... p) {
  INDEPENDENT
  for (std::size_t i = begin; i < end; ++i) rule(p[i]...);
}

template <class A, class T> using Pointee = std::conditional_t<std::is_reference_v<A>, T, const T>;

template <class R, class T, class... A, int... I>
HD void apply(Types<A...>, const R& rule, void* const* buffers, std::size_t begin, std::size_t end,
              Indices<I...>) {
  loop(rule, begin, end, static_cast<Pointee<A, T>*>(buffers[I])...);
}

// Compute a cache line at a time in registers and store it past the caches. Elements of `out` at either end
// that fill no line are stored as usual.
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
  fence();
}

template <class R, class T, int... I>
HD void apply_streaming(const R& rule, void* const* buffers, std::size_t begin, std::size_t end,
                        Indices<I...>) {
  streaming_loop(rule, begin, end, static_cast<T*>(buffers[sizeof...(I)]),
                 static_cast<const T*>(buffers[I])...);
}

// Return whether the last buffer is none of the others; one that is also read is stored as usual.
HD bool is_separate(void* const* buffers, int count) {
  for (int i = 0; i + 1 < count; ++i)
    if (buffers[i] == buffers[count - 1]) return false;
  return true;
}

template <class R, class T>
void elementwise(const double* scalars, void* const* buffers, std::size_t begin, std::size_t end,
                 bool large) {
  constexpr int count = Arguments<R>::count;
  if constexpr (only_writes<R>)
    if (large && is_separate(buffers, count))
      return apply_streaming<R, T>(made<R, T>(scalars), buffers, begin, end, Count<count - 1>{});
  apply<R, T>(typename Arguments<R>::types{}, made<R, T>(scalars), buffers, begin, end, Count<count>{});
}

}  // namespace
}  // namespace loosestep
