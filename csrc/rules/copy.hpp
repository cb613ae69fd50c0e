#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Copy {
  static constexpr auto name = "copy";
  static constexpr auto parameters = "x, out";
  HD void operator()(T x, T& out) const { out = x; }
};

}  // namespace loosestep
