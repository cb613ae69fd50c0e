#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// The direction alone, in the place of the gradient: its length needs a norm before x can move.
template <class T> struct Lamb {
  static constexpr auto name = "lamb";
  static constexpr auto parameters = "x, m, v, g, beta1, beta2, epsilon, weight_decay, step";
  T new1, old2, new2, size, inverse, epsilon, weight_decay;

  // The bias corrections, in double, once a call.
  HD static Lamb from(const double* scalars) {
    const double beta1 = scalars[0], beta2 = scalars[1], step = scalars[4];
    const double size = 1 / (1 - power(beta1, step));
    const double inverse = 1 / root(1 - power(beta2, step));
    return {T(1 - beta1), T(beta2), T(1 - beta2), T(size), T(inverse), T(scalars[2]), T(scalars[3])};
  }

  HD void operator()(T x, T& m, T& v, T& g) const {
    m += new1 * (g - m);
    v = old2 * v + new2 * g * g;
    g = size * m / (root(v) * inverse + epsilon) + weight_decay * x;
  }
};

}  // namespace loosestep
