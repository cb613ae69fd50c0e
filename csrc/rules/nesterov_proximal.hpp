#pragma once
#include "rules/blend.hpp"
#include "rules/nesterov.hpp"
#include "rules/proximal.hpp"

namespace loosestep {

// One pass over memory instead of three, with the same bits. The gradient is not changed.
template <class T> struct NesterovProximal {
  static constexpr auto name = "nesterov_proximal";
  static constexpr auto parameters = "x, v, g, c, z, rate, momentum, strength, keep";
  Nesterov<T> step;
  Proximal<T> proximal;
  Blend<T> blend;

  HD static NesterovProximal from(const double* scalars) {
    return {{T(scalars[0]), T(scalars[1])}, {T(scalars[2])}, Blend<T>::from(scalars + 3)};
  }

  HD void operator()(T& x, T& v, T g, T c, T& z) const {
    proximal(g, x, c);
    step(x, v, g);
    blend(z, x);
  }
};

}  // namespace loosestep
