#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Elastic {
  static constexpr auto name = "elastic";
  static constexpr auto parameters = "x, c, rate";
  T rate;
  HD void operator()(T& x, T& c) const {
    T d = rate * (x - c);
    x -= d;
    c += d;
  }
};

}  // namespace loosestep
