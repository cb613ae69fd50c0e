#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Shrink {
  static constexpr auto name = "shrink";
  static constexpr auto parameters = "x, factor, less";
  T factor, less;
  HD void operator()(T& x) const {
    const T left = signed_as(x, T(1)) * factor - less;
    x = signed_as(left < 0 ? T(0) : left, x);
  }
};

}  // namespace loosestep
