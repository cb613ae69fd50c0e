// The step size at step t = 1, 2, ... of all threads together.
#pragma once

#include <cmath>
#include <cstdint>

namespace loosestep::models {

enum class Schedule { constant, invscaling, optimal };

class Rate {
 public:
  Schedule schedule = Schedule::constant;
  double eta0 = 0.1;
  double power = 0.5;  // of invscaling: eta0 / t^power
  double alpha = 0;    // of optimal: 1 / (alpha (offset + t))
  double offset = 0;

  float at(std::uint64_t t) const {
    switch (schedule) {
      case Schedule::constant:
        return float(eta0);
      case Schedule::invscaling:
        return float(eta0 / std::pow(double(t), power));
      case Schedule::optimal:
        return float(1 / (alpha * (offset + double(t))));
    }
    __builtin_unreachable();
  }
};

}  // namespace loosestep::models
