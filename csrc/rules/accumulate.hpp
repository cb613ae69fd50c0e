#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Accumulate {
  static constexpr auto name = "accumulate";
  static constexpr auto parameters = "e, c, x, decay";
  T decay;
  HD void operator()(T& e, T c, T x) const { e = decay * e + (c - x); }
};

}  // namespace loosestep
