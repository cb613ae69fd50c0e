// From a rule to a loop over buffers. Included by files that are compiled once per instruction set, hence
// the anonymous namespace: no symbol here may be shared between them.
#pragma once
#include <cstddef>
#include <type_traits>
#include <utility>

#include "cpu/kernels.hpp"

#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace loosestep {
namespace {

// A rule's buffers, from the types of its arguments.
template <class R> struct Arguments : Arguments<decltype(&R::operator())> {};
template <class R, class... A> struct Arguments<void (R::*)(A...) const> {
  template <template <class...> class To> using as = To<A...>;
  static constexpr int count = sizeof...(A);
  static constexpr unsigned written() {
    unsigned mask = 0, bit = 1;
    ((mask |= std::is_reference_v<A> ? bit : 0, bit <<= 1), ...);
    return mask;
  }
};

template <class R, class = void> struct HasFrom : std::false_type {};
template <class R> struct HasFrom<R, std::void_t<decltype(R::from(nullptr))>> : std::true_type {};

template <class R, class T, std::size_t... I>
HD R fields(const double* scalars, std::index_sequence<I...>) {
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
HD void spread(void (R::*)(A...) const, const R& rule, void* const* buffers, std::size_t begin,
               std::size_t end, std::index_sequence<I...>) {
  loop(rule, begin, end, static_cast<Pointee<A, T>*>(buffers[I])...);
}

template <class R, class T>
void each(const double* scalars, void* const* buffers, std::size_t begin, std::size_t end) {
  spread<R, T>(&R::operator(), made<R, T>(scalars), buffers, begin, end,
               std::make_index_sequence<Arguments<R>::count>{});
}

}  // namespace
}  // namespace loosestep
