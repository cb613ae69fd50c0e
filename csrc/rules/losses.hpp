// Losses of one prediction p and one target y, for host and device: value and derivative with respect to p.
#pragma once
#include "rules/rule.hpp"

namespace loosestep {

enum class LossKind { logistic, hinge, squared_hinge, squared, huber, softmax };

template <class T> HD T smaller(T x, T y) { return y < x ? y : x; }
template <class T> HD T larger(T x, T y) { return x < y ? y : x; }
template <class T> HD T between(T low, T x, T high) { return smaller(larger(x, low), high); }

struct OneLoss {
  LossKind kind;
  float epsilon = 0.1f;  // of huber: where it becomes linear

  // Slopes are clipped to 1e12, as in scikit-learn: even steps that are much too long give finite numbers.
  static constexpr float steepest = 1e12f;

  HD float slope(float p, float y) const { return between(-steepest, uncut(p, y), steepest); }

  HD float uncut(float p, float y) const {
    switch (kind) {
      case LossKind::logistic:
        return -y / (1 + exponential(y * p));
      case LossKind::hinge:
        return y * p < 1 ? -y : 0;
      case LossKind::squared_hinge:
        return y * p < 1 ? -2 * y * (1 - y * p) : 0;
      case LossKind::squared:
        return p - y;
      case LossKind::huber:
        return between(-epsilon, p - y, epsilon);
      case LossKind::softmax:
        break;  // needs several outputs
    }
    return 0;
  }

  HD double value(float p, float y) const {
    const double margin = double(y) * p, gap = double(p) - y, bend = epsilon;
    switch (kind) {
      case LossKind::logistic:
        return margin > 0 ? log_of_one_and(exponential(-margin))
                          : log_of_one_and(exponential(margin)) - margin;
      case LossKind::hinge:
        return larger(0.0, 1 - margin);
      case LossKind::squared_hinge:
        return margin < 1 ? (1 - margin) * (1 - margin) : 0;
      case LossKind::squared:
        return gap * gap / 2;
      case LossKind::huber:
        return size_of(gap) <= bend ? gap * gap / 2 : bend * size_of(gap) - bend * bend / 2;
      case LossKind::softmax:
        break;
    }
    return 0;
  }

  HD static double size_of(double x) { return x < 0 ? -x : x; }
};

}  // namespace loosestep
