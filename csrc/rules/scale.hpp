#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Scale {
  static constexpr auto name = "scale";
  static constexpr auto parameters = "x, a";
  T a;
  HD void operator()(T& x) const { x *= a; }
};

}  // namespace loosestep
