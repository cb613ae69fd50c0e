// The weight of a copy's change in the center, after n copies were trained in parallel for `length`, the sum
// of their step sizes.
//
// On a quadratic of curvature h one copy covers 1 - rho of its way, rho = exp(-length h); n periods in
// sequence would cover 1 - rho^n, and the sum of n changes n (1 - rho), which overshoots for small rho. So a
// change has the weight s = (1 - rho^n) / (n (1 - rho)): 1 for a coordinate that hardly moves, the mean's 1/n
// for one that has converged. This is approximated by s = 1/n + (1 - 1/n) / (1 + n length h / 2), which has
// the same limits and the same slope at 0. The curvature h of a coordinate is the loss's largest curvature
// times the coupling, the mean of |x_j| sum_i |x_i| over the rows: a row sum of the Hessian, so that the effect of features together is included. It is a
// bound, reached where all signs agree and all examples are where the loss is most curved; with a tenth of it
// two threads had the objective of one, and eight did not overshoot (docs/results/hogwild.md).
#pragma once

#include <cstddef>

namespace loosestep::models {

class MergeWeight {
 public:
  MergeWeight(int copies, double curvature, double length, const float* coupling)
      : least_(1 / float(copies)),
        slope_(float(tightness * curvature * length) * float(copies) / 2),
        coupling_(coupling) {}

  // Return the weight 1: changes are added.
  static MergeWeight sums() { return {1, 0, 0, nullptr}; }

  float operator()(std::size_t place) const {
    return coupling_ ? least_ + (1 - least_) / (1 + slope_ * coupling_[place]) : 1;
  }

 private:
  static constexpr double tightness = 0.1;

  float least_, slope_;
  const float* coupling_;
};

}  // namespace loosestep::models
