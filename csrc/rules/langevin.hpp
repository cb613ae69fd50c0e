#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Langevin {
  static constexpr auto name = "langevin";
  static constexpr auto parameters = "x, g, rate, scale";
  T rate, scale;
  HD void operator()(T& x, T g, T noise) const { x = (x - rate * g) + scale * noise; }
};

}  // namespace loosestep
