// Losses of several predictions p for one target y, the number of a class: one against the rest (the sum of
// the losses with +1 for the class and -1 for the others), or softmax. For one prediction: rules/losses.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include "rules/losses.hpp"

namespace loosestep::models {

using loosestep::LossKind;

struct Loss : OneLoss {
  using OneLoss::value;

  // Return the loss of several outputs.
  double value(const float* p, std::size_t outputs, std::size_t y) const {
    if (kind == LossKind::softmax) return softmax_value(p, outputs, y);
    double sum = 0;
    for (std::size_t o = 0; o < outputs; ++o) sum += value(p[o], o == y ? 1.0f : -1.0f);
    return sum;
  }

  // Replace p by the derivatives of the loss.
  void to_slopes(float* p, std::size_t outputs, std::size_t y) const {
    if (kind == LossKind::softmax) return softmax_slopes(p, outputs, y);
    for (std::size_t o = 0; o < outputs; ++o) p[o] = slope(p[o], o == y ? 1.0f : -1.0f);
  }

  // -log(exp p_y / sum exp p_o).
  static double softmax_value(const float* p, std::size_t outputs, std::size_t y) {
    const float top = *std::max_element(p, p + outputs);
    float sum = 0;
    for (std::size_t o = 0; o < outputs; ++o) sum += std::exp(p[o] - top);
    return std::log(sum) - (p[y] - top);
  }

  // Replace p by the probabilities, minus 1 for y.
  static void softmax_slopes(float* p, std::size_t outputs, std::size_t y) {
    const float top = *std::max_element(p, p + outputs);
    float sum = 0;
    for (std::size_t o = 0; o < outputs; ++o) sum += p[o] = std::exp(p[o] - top);
    for (std::size_t o = 0; o < outputs; ++o) p[o] /= sum;
    p[y] -= 1;
  }

  // Return the largest curvature. A hinge has none; its mean over many examples is about as curved as a
  // squared loss.
  double curvature() const {
    switch (kind) {
      case LossKind::logistic:
      case LossKind::softmax:
        return 0.25;
      case LossKind::squared_hinge:
        return 2;
      default:
        return 1;
    }
  }
};

}  // namespace loosestep::models
