#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Sgd {
  static constexpr auto name = "sgd";
  static constexpr auto parameters = "x, g, rate";
  T rate;
  HD void operator()(T& x, T g) const { x -= rate * g; }
};

}  // namespace loosestep
