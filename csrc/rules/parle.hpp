#pragma once
#include "rules/nesterov.hpp"

namespace loosestep {

// The outer step: x moves towards z, the mean of its inner loop, and y, the mean of all workers. Both become
// x.
template <class T> struct Parle {
  static constexpr auto name = "parle";
  static constexpr auto parameters = "x, v, z, y, rate, momentum, coupling";
  T rate, momentum, coupling;
  HD void operator()(T& x, T& v, T& z, T& y) const {
    Nesterov<T>{rate, momentum}(x, v, (x - z) + coupling * (x - y));
    z = x;
    y = x;
  }
};

}  // namespace loosestep
