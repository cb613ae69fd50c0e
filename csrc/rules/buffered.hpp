#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Buffered {
  static constexpr auto name = "buffered";
  static constexpr auto parameters = "c, total, d, rate, every, seen, discount, step";
  T weight, size;
  bool last;  // of the `every` pushes that share a step

  // How many steps of c lie between `seen` and this push; the weight in double, once per call.
  HD static Buffered from(const double* scalars) {
    const double rate = scalars[0], every = scalars[1], seen = scalars[2], step = scalars[4];
    const double late = (step - 1 - modulo(step - 1, every) - (seen - modulo(seen, every))) / every;
    return {T(power(1 + (late > 0 ? late : 0), -scalars[3])), T(rate / every), modulo(step, every) == 0};
  }

  HD void operator()(T& c, T& total, T d) const {
    total += weight * d;
    if (last) {
      c -= size * total;
      total = 0;
    }
  }
};

}  // namespace loosestep
