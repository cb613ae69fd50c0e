#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// x is the mean of the replicas before, and the new anchor afterwards, like c.
template <class T> struct OuterNesterov {
  static constexpr auto name = "outer_nesterov";
  static constexpr auto parameters = "x, c, u, rate, momentum";
  T rate, momentum;
  HD void operator()(T& x, T& c, T& u) const {
    T back = c - x;
    u = momentum * u + back;
    c -= rate * (back + momentum * u);
    x = c;
  }
};

}  // namespace loosestep
