#pragma once
#include "rules/rule.hpp"

namespace loosestep {

template <class T> struct AddIfRecent {
  static constexpr auto name = "add_if_recent";
  static constexpr auto parameters = "c, d, seen, most, step";
  bool recent;

  HD static AddIfRecent from(const double* scalars) { return {scalars[2] - scalars[0] <= scalars[1]}; }

  HD void operator()(T& c, T d) const {
    if (recent) c += d;
  }
};

}  // namespace loosestep
