#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct AddNormal {
  static constexpr auto name = "add_normal";
  static constexpr auto parameters = "x, scale";
  T scale;
  HD void operator()(T& x, T noise) const { x += scale * noise; }
};

}  // namespace loosestep
