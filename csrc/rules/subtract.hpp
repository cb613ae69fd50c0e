#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Subtract {
  static constexpr auto name = "subtract";
  static constexpr auto parameters = "a, b, out";
  static constexpr bool only_writes = true;  // the last buffer
  HD void operator()(T a, T b, T& out) const { out = a - b; }
};

}  // namespace loosestep
