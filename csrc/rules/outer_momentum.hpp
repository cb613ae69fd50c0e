#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// x is the mean of the replicas before, and the new anchor afterwards, like c.
template <class T> struct OuterMomentum {
  static constexpr auto name = "outer_momentum";
  static constexpr auto parameters = "x, c, u, rate, momentum";
  T rate, momentum;
  HD void operator()(T& x, T& c, T& u) const {
    u = momentum * u + (c - x);
    c -= rate * u;
    x = c;
  }
};

}  // namespace loosestep
