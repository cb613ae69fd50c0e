#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct Adam {
  static constexpr auto name = "adam";
  static constexpr auto parameters = "x, m, v, g, rate, beta1, beta2, epsilon, step";
  T new1, old2, new2, size, correction, epsilon;

  // Compute the bias corrections in double, once per call.
  HD static Adam from(const double* scalars) {
    const double rate = scalars[0], beta1 = scalars[1], beta2 = scalars[2], step = scalars[4];
    const double size = rate / (1 - power(beta1, step));
    const double correction = root(1 - power(beta2, step));
    return {T(1 - beta1), T(beta2), T(1 - beta2), T(size), T(correction), T(scalars[3])};
  }

  HD void operator()(T& x, T& m, T& v, T g) const {
    m += new1 * (g - m);
    v = old2 * v + new2 * g * g;
    x -= size * m / (root(v) / correction + epsilon);
  }
};

}  // namespace loosestep
