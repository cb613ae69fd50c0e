#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// z averages the values that c has after each addition.
template <class T> struct AddAndAverage {
  static constexpr auto name = "add_and_average";
  static constexpr auto parameters = "c, z, d, weight, step";
  T weight;

  HD static AddAndAverage from(const double* scalars) {
    return {T(scalars[0] != 0 ? scalars[0] : 1 / (scalars[1] + 1))};
  }

  HD void operator()(T& c, T& z, T d) const {
    c += d;
    z += weight * (c - z);
  }
};

}  // namespace loosestep
