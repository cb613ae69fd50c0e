#pragma once
#include "rules/rule.hpp"

namespace loosestep {

// Not a lerp: for keep = 0 the result is exactly x.
template <class T> struct Blend {
  static constexpr auto name = "blend";
  static constexpr auto parameters = "z, x, keep";
  T keep, take;

  HD static Blend from(const double* scalars) { return {T(scalars[0]), T(1 - scalars[0])}; }

  HD void operator()(T& z, T x) const { z = keep * z + take * x; }
};

}  // namespace loosestep
