// Losses of predictions p at one target y: value and slope d value / d p. With several outputs y is the
// number of a class: one against the rest (the sum of the losses with +1 for the class and -1 for the
// others), or softmax.
#pragma once

#include <algorithm>
#include <cmath>

namespace loosestep::models {

enum class LossKind { logistic, hinge, squared_hinge, squared, huber, softmax };

struct Loss {
  LossKind kind;
  float epsilon = 0.1f;  // of huber: where it becomes linear

  // Cut off at 1e12, as scikit-learn's: steps that are much too long then still end in numbers.
  static constexpr float steepest = 1e12f;

  float slope(float p, float y) const { return std::clamp(uncut(p, y), -steepest, steepest); }

  float uncut(float p, float y) const {
    switch (kind) {
      case LossKind::logistic:
        return -y / (1 + std::exp(y * p));
      case LossKind::hinge:
        return y * p < 1 ? -y : 0;
      case LossKind::squared_hinge:
        return y * p < 1 ? -2 * y * (1 - y * p) : 0;
      case LossKind::squared:
        return p - y;
      case LossKind::huber:
        return std::clamp(p - y, -epsilon, epsilon);
      case LossKind::softmax:
        break;
    }
    __builtin_unreachable();
  }

  // Of several outputs.
  double value(const float* p, std::size_t outputs, std::size_t y) const {
    if (kind == LossKind::softmax) return softmax_value(p, outputs, y);
    double sum = 0;
    for (std::size_t o = 0; o < outputs; ++o) sum += value(p[o], o == y ? 1.0f : -1.0f);
    return sum;
  }

  // p becomes the slopes.
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

  // The probabilities, less 1 for y.
  static void softmax_slopes(float* p, std::size_t outputs, std::size_t y) {
    const float top = *std::max_element(p, p + outputs);
    float sum = 0;
    for (std::size_t o = 0; o < outputs; ++o) sum += p[o] = std::exp(p[o] - top);
    for (std::size_t o = 0; o < outputs; ++o) p[o] /= sum;
    p[y] -= 1;
  }

  // The largest; a hinge has none, its mean over many examples about as much as a squared loss.
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

  double value(float p, float y) const {
    const double margin = double(y) * p, gap = double(p) - y, bend = epsilon;
    switch (kind) {
      case LossKind::logistic:
        return margin > 0 ? std::log1p(std::exp(-margin)) : std::log1p(std::exp(margin)) - margin;
      case LossKind::hinge:
        return std::max(0.0, 1 - margin);
      case LossKind::squared_hinge:
        return margin < 1 ? (1 - margin) * (1 - margin) : 0;
      case LossKind::squared:
        return gap * gap / 2;
      case LossKind::huber:
        return std::abs(gap) <= bend ? gap * gap / 2 : bend * std::abs(gap) - bend * bend / 2;
      case LossKind::softmax:
        break;
    }
    __builtin_unreachable();
  }
};

}  // namespace loosestep::models
