#pragma once
#include "rules/blend.hpp"
#include "rules/pull.hpp"
#include "rules/sgd.hpp"

namespace loosestep {

// One pass over memory instead of three, with the same bits. The gradient is not changed.
template <class T> struct SgdPulled {
  static constexpr auto name = "sgd_pulled";
  static constexpr auto parameters = "x, g, c, z, rate, strength, keep";
  Sgd<T> step;
  Pull<T> pull;
  Blend<T> blend;

  HD static SgdPulled from(const double* scalars) {
    return {{T(scalars[0])}, {T(scalars[1])}, Blend<T>::from(scalars + 2)};
  }

  HD void operator()(T& x, T g, T c, T& z) const {
    pull(g, x, c);
    step(x, g);
    blend(z, x);
  }
};

}  // namespace loosestep
