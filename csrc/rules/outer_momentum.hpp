#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// x comes as the mean of the replicas, and leaves as the new anchor, like c.
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
