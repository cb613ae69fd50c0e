// Losses of one prediction p at one target y: value and slope d value / d p.
#pragma once

#include <algorithm>
#include <cmath>

namespace loosestep::models {

enum class LossKind { logistic, hinge, squared_hinge, squared, huber };

struct Loss {
  LossKind kind;
  float epsilon = 0.1f;  // of huber: where it becomes linear

  float slope(float p, float y) const {
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
    }
    __builtin_unreachable();
  }

  // The largest; a hinge has none, its mean over many examples about as much as a squared loss.
  double curvature() const {
    switch (kind) {
      case LossKind::logistic:
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
    }
    __builtin_unreachable();
  }
};

}  // namespace loosestep::models
