#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Copy {
  static constexpr auto name = "copy";
  static constexpr auto parameters = "x, out";
  static constexpr bool only_writes = true;  // the last buffer
  HD void operator()(T x, T& out) const { out = x; }
};

}  // namespace loosestep
