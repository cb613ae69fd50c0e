#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// Computes only the direction, in place of the gradient: its norm is needed before x can be updated.
template <class T> struct Lamb {
  static constexpr auto name = "lamb";
  static constexpr auto parameters = "x, m, v, g, beta1, beta2, epsilon, weight_decay, step";
  T new1, old2, new2, size, inverse, epsilon, weight_decay;

  // Compute the bias corrections in double, once per call.
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
