#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct RmspropWarmup {
  static constexpr auto name = "rmsprop_warmup";
  static constexpr auto parameters = "x, d, m, g, rate, momentum, decay, sgd_share, rms_share, epsilon";
  T rate, momentum, decay, fresh, sgd_share, rms_share, epsilon;

  HD static RmspropWarmup from(const double* scalars) {
    return {T(scalars[0]), T(scalars[1]), T(scalars[2]), T(1 - scalars[2]),
            T(scalars[3]), T(scalars[4]), T(scalars[5])};
  }

  HD void operator()(T& x, T& d, T& m, T g) const {
    m = decay * m + fresh * g * g;
    d = momentum * d - (sgd_share + rms_share / (root(m) + epsilon)) * g;
    x += rate * d;
  }
};

}  // namespace loosestep
