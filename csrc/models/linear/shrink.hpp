// The effect of regularization on a weight over several steps of sizes eta_1 + ... + eta_k = length:
//   w <- sign(w) max(0, |w| exp(-l2 length) - l1 length)
// L2 is (1 - eta_1 l2) (1 - eta_2 l2) ... in the limit of small steps; L1 is by truncated gradients
// (Langford, Li, Zhang 2009).
#pragma once

#include <cmath>

#include "rules/shrink.hpp"

namespace loosestep::models {

class Shrink {
 public:
  Shrink(double l2, double l1, double length)
      : factor_(float(std::exp(-l2 * length))), less_(float(l1 * length)) {}

  // Return the effect of so many repetitions.
  Shrink repeated(int times) const {
    Shrink all = *this;
    all.factor_ = std::pow(factor_, float(times)), all.less_ = less_ * float(times);
    return all;
  }

  bool nothing() const { return factor_ == 1 && less_ == 0; }
  float operator()(float w) const {
    loosestep::Shrink<float>{factor_, less_}(w);
    return w;
  }

 private:
  float factor_, less_;
};

}  // namespace loosestep::models
