#pragma once
#include "rules/lerp.hpp"

namespace loosestep {

// The result is sent at once, so it is copied to c.
template <class T> struct LerpAndCopy {
  static constexpr auto name = "lerp_and_copy";
  static constexpr auto parameters = "x, c, rate";
  T rate;
  HD void operator()(T& x, T& c) const {
    Lerp<T>{rate}(x, c);
    c = x;
  }
};

}  // namespace loosestep
