#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct DelayedNesterov {
  static constexpr auto name = "delayed_nesterov";
  static constexpr auto parameters = "c, m, total, d, rate, momentum, every, step";
  T rate, momentum, every;
  bool last;  // of the `every` updates that share a step of the momentum

  HD static DelayedNesterov from(const double* scalars) {
    return {T(scalars[0]), T(scalars[1]), T(scalars[2]), modulo(scalars[3], scalars[2]) == 0};
  }

  HD void operator()(T& c, T& m, T& total, T d) const {
    total += d;
    T step = d / every;
    if (last) {
      m = momentum * m + total / every;
      total = 0;
      step += momentum * m;
    }
    c -= rate * step;
  }
};

}  // namespace loosestep
