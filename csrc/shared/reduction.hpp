// How a collective's op and its ranks' weights are computed: the same for threads and for processes.
#pragma once

#include <span>

#include "shared/reduce_loops.hpp"

namespace loosestep::shared {

template <class T> class Reduction {
 public:
  Reduction(Op op, std::span<const double> weights)
      : op_(op), weights_(weights), weighted_(op == Op::mean && !equal(weights)), total_(total(weights)) {}

  // Return whether all weights are 0 in the arrays' own type: then no rank's values change.
  static bool all_weights_zero(std::span<const double> weights) {
    for (const double weight : weights)
      if (static_cast<T>(weight) != 0) return false;
    return true;
  }

  // Return whether acc may be one of the xs.
  bool may_alias() const { return !weighted_ && weights_.size() <= 2; }

  // acc = the reduction of xs[.][begin .. begin + n)
  void operator()(T* acc, Buffers xs, std::size_t begin, std::size_t n) const {
    if (weighted_)
      weighted_mean_tile(acc, xs, weights_, total_, begin, n);
    else
      fold_tile(op_, acc, xs, begin, n);
  }

 private:
  static bool equal(std::span<const double> weights) {
    for (const double weight : weights)
      if (static_cast<T>(weight) != static_cast<T>(weights.front())) return false;
    return true;
  }

  static T total(std::span<const double> weights) {
    T sum = 0;  // 0 + w is w: the left fold over the weights that are not 0
    for (const double weight : weights) sum += static_cast<T>(weight);
    return sum;
  }

  Op op_;
  std::span<const double> weights_;
  bool weighted_;
  T total_;
};

}  // namespace loosestep::shared
