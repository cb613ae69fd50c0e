#pragma once
#include "rules/elastic.hpp"
#include "rules/nesterov.hpp"

namespace loosestep {

// One pass over memory instead of two, with the same bits.
template <class T> struct NesterovElastic {
  static constexpr auto name = "nesterov_elastic";
  static constexpr auto parameters = "x, v, g, c, rate, momentum, moving_rate";
  T rate, momentum, moving_rate;
  HD void operator()(T& x, T& v, T g, T& c) const {
    Nesterov<T>{rate, momentum}(x, v, g);
    Elastic<T>{moving_rate}(x, c);
  }
};

}  // namespace loosestep
