#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// x comes as the mean of the replicas, and leaves as the new anchor, like c.
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
