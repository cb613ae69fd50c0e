#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct AdamW {
  static constexpr auto name = "adamw";
  static constexpr auto parameters = "x, m, v, g, rate, beta1, beta2, epsilon, weight_decay, step";
  T new1, old2, new2, size, inverse, epsilon, kept;

  // The bias corrections, and what the decay leaves of x, in double, once a call.
  HD static AdamW from(const double* scalars) {
    const double rate = scalars[0], beta1 = scalars[1], beta2 = scalars[2], step = scalars[5];
    const double size = rate / (1 - power(beta1, step));
    const double inverse = 1 / root(1 - power(beta2, step));
    const double kept = 1 - rate * scalars[4];
    return {T(1 - beta1), T(beta2), T(1 - beta2), T(size), T(inverse), T(scalars[3]), T(kept)};
  }

  HD void operator()(T& x, T& m, T& v, T g) const {
    m += new1 * (g - m);
    v = old2 * v + new2 * g * g;
    x = kept * x - size * m / (root(v) * inverse + epsilon);
  }
};

}  // namespace loosestep
