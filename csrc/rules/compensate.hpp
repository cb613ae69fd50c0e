#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// A decay of 1 leaves v unchanged: the strength is constant.
template <class T> struct Compensate {
  static constexpr auto name = "compensate";
  static constexpr auto parameters = "c, b, v, s, strength, decay, epsilon";
  T strength, old2, new2, epsilon;

  HD static Compensate from(const double* scalars) {
    return {T(scalars[0]), T(scalars[1]), T(1 - scalars[1]), T(scalars[2])};
  }

  HD void operator()(T& c, T& b, T& v, T s) const {
    v = old2 * v + new2 * s * s;
    c += s - strength * s * s * (c - b) / root(v + epsilon);
    b = c;
  }
};

}  // namespace loosestep
