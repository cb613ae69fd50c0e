#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Claim {
  static constexpr auto name = "claim";
  static constexpr auto parameters = "c, v";
  HD void operator()(T& c, T v) const {
    if (v >= c + 1) c = v;
  }
};

}  // namespace loosestep
