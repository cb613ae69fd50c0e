#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Axpy {
  static constexpr auto name = "axpy";
  static constexpr auto parameters = "y, x, a";
  T a;
  HD void operator()(T& y, T x) const { y += a * x; }
};

}  // namespace loosestep
