// How much of a copy's change goes into the center when n copies were trained side by side for as long as
// `length` (the sum of their step sizes).
//
// On a quadratic of curvature h one copy alone covers 1 - rho of its way, rho = exp(-length h); n periods one
// behind the other would cover 1 - rho^n, the sum of n changes n (1 - rho), which overshoots where rho is
// small. So a change counts s = (1 - rho^n) / (n (1 - rho)): 1 for what hardly moves, the mean's 1/n for what
// arrives. Here s = 1/n + (1 - 1/n) / (1 + n length h / 2), which has the same ends and the same slope at 0.
// h of a coordinate is the loss's largest curvature times its coupling, the mean of |x_j| sum_i |x_i| over
// the rows: a row sum of the Hessian, so that what features do together is counted too. That is a bound,
// reached where all signs agree and all examples lie where the loss bends most; a tenth of it gave the
// objective of one thread with two threads, and with eight no overshooting (docs/results/hogwild.md).
#pragma once

#include <cstddef>

namespace loosestep::models {

class MergeWeight {
 public:
  MergeWeight(int copies, double curvature, double length, const float* coupling)
      : least_(1 / float(copies)),
        slope_(float(tightness * curvature * length) * float(copies) / 2),
        coupling_(coupling) {}

  // Sums, whatever they are of.
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
