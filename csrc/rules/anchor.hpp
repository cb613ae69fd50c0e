#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// z is the anchor before, and afterwards what this worker passes to the next one.
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
