#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// z comes as the anchor, and leaves as what this worker gives to the next one.
template <class T> struct Anchor {
  static constexpr auto name = "anchor";
  static constexpr auto parameters = "x, z, b, pull, momentum";
  T pull, momentum;
  HD void operator()(T& x, T& z, T& b) const {
    x += pull * (z - x);
    b = momentum * b + (z - x);
    z -= b;
  }
};

}  // namespace loosestep
