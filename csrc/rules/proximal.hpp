#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Proximal {
  static constexpr auto name = "proximal";
  static constexpr auto parameters = "g, x, c, strength";
  T strength;
  HD void operator()(T& g, T x, T c) const { g += strength * (x - c); }
};

}  // namespace loosestep
