#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// Heavy-ball momentum on the gradient with weight decay; the rate contains the trust ratio.
template <class T> struct Lars {
  static constexpr auto name = "lars";
  static constexpr auto parameters = "x, v, g, rate, momentum, weight_decay";
  T rate, momentum, weight_decay;
  HD void operator()(T& x, T& v, T g) const {
    v = momentum * v - rate * (g + weight_decay * x);
    x += v;
  }
};

}  // namespace loosestep
