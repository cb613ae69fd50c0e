#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Nesterov {
  static constexpr auto name = "nesterov";
  static constexpr auto parameters = "x, v, g, rate, momentum";
  T rate, momentum;
  HD void operator()(T& x, T& v, T g) const {
    T step = rate * g;
    v = momentum * v - step;
    x += momentum * v - step;
  }
};

}  // namespace loosestep
