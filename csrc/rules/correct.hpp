#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Correct {
  static constexpr auto name = "correct";
  static constexpr auto parameters = "x, s, a";
  HD void operator()(T& x, T s, T a) const { x = a + (x - s); }
};

}  // namespace loosestep
