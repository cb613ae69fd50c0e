#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// Heavy ball on the decayed gradient; the trust ratio is in the rate.
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
