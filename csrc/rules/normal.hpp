#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// The last argument of such a rule is not a buffer but a normal random number.
template <class T> struct Normal {
  static constexpr auto name = "normal";
  static constexpr auto parameters = "out, scale";
  T scale;
  HD void operator()(T& out, T noise) const { out = scale * noise; }
};

}  // namespace loosestep
