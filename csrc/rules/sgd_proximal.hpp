#pragma once
#include "rules/blend.hpp"
#include "rules/proximal.hpp"
#include "rules/sgd.hpp"

namespace loosestep {

// One pass over memory instead of three, with the same bits. The gradient is not changed.
template <class T> struct SgdProximal {
  static constexpr auto name = "sgd_proximal";
  static constexpr auto parameters = "x, g, c, z, rate, strength, keep";
  Sgd<T> step;
  Proximal<T> proximal;
  Blend<T> blend;

  HD static SgdProximal from(const double* scalars) {
    return {{T(scalars[0])}, {T(scalars[1])}, Blend<T>::from(scalars + 2)};
  }

  HD void operator()(T& x, T g, T c, T& z) const {
    proximal(g, x, c);
    step(x, g);
    blend(z, x);
  }
};

}  // namespace loosestep
