#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Lerp {
  static constexpr auto name = "lerp";
  static constexpr auto parameters = "x, c, rate";
  T rate;
  HD void operator()(T& x, T c) const { x += rate * (c - x); }
};

}  // namespace loosestep
