// What loops and bindings need to know of a rule: its buffers, from the types of its arguments, and how it is
// made from scalars. For host and device and without headers, like the rules.
#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class... A> struct Types {};
template <int... I> struct Indices {};

// Indices<0, ..., n - 1>.
template <int n, int... I> struct Counted : Counted<n - 1, n - 1, I...> {};
template <int... I> struct Counted<0, I...> {
  using type = Indices<I...>;
};
template <int n> using Count = typename Counted<n>::type;

// A rule writes the buffers that it takes by reference.
template <class A> inline constexpr bool is_written = false;
template <class A> inline constexpr bool is_written<A&> = true;

// The buffers of a rule. Uses only the type of its operator: taking its address would leave a copy for the
// linker.
template <class R> struct Arguments : Arguments<decltype(&R::operator())> {};
template <class R, class... A> struct Arguments<void (R::*)(A...) const> {
  using types = Types<A...>;
  static constexpr int count = sizeof...(A);

  HD static constexpr unsigned written() {
    unsigned mask = 0, bit = 1;
    ((mask |= is_written<A> ? bit : 0, bit <<= 1), ...);
    return mask;
  }
};

template <class...> using Void = void;

// Whether a rule only writes its last buffer.
template <class R, class = void> inline constexpr bool only_writes = false;
template <class R> inline constexpr bool only_writes<R, Void<decltype(R::only_writes)>> = true;

template <class R, class = void> inline constexpr bool has_from = false;
template <class R> inline constexpr bool has_from<R, Void<decltype(R::from(nullptr))>> = true;

template <class R, class T, int... I> HD R fields(const double* scalars, Indices<I...>) {
  return R{T(scalars[I])...};
}

// Make a rule from its scalars, rounded to the type of its arithmetic.
template <class R, class T> HD R made([[maybe_unused]] const double* scalars) {
  if constexpr (has_from<R>)
    return R::from(scalars);
  else if constexpr (__is_empty(R))
    return R{};
  else
    return fields<R, T>(scalars, Count<sizeof(R) / sizeof(T)>{});
}

}  // namespace loosestep
