// The step size at step t = 1, 2, ... of all threads together.
#pragma once
#include "rules/rule.hpp"

namespace loosestep {

enum class Schedule { constant, invscaling, optimal };

struct Rate {
  Schedule schedule = Schedule::constant;
  double eta0 = 0.1;
  double exponent = 0.5;  // of invscaling: eta0 / t^exponent
  double alpha = 0;       // of optimal: 1 / (alpha (offset + t))
  double offset = 0;

  HD float at(unsigned long long t) const {
    switch (schedule) {
      case Schedule::constant:
        return float(eta0);
      case Schedule::invscaling:
        return float(eta0 / power(double(t), exponent));
      case Schedule::optimal:
        return float(1 / (alpha * (offset + double(t))));
    }
    return 0;
  }
};

}  // namespace loosestep
