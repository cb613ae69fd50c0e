#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Momentum {
  static constexpr auto name = "momentum";
  static constexpr auto parameters = "x, v, g, rate, momentum";
  T rate, momentum;
  HD void operator()(T& x, T& v, T g) const {
    v = momentum * v - rate * g;
    x += v;
  }
};

}  // namespace loosestep
