// One thread's part of the tail: what regularization and the average do to it, for the steps of all threads.
#pragma once

#include <algorithm>

#include "models/edge.hpp"
#include "models/linear.hpp"
#include "models/shrink.hpp"

namespace loosestep::models {

class Stretch {
 public:
  Stretch(Weights& weights, int thread)
      : weights_(weights), thread_(thread), begin_(edge(thread)), end_(edge(thread + 1)) {}

  template <class Cells> void shrink(Cells& tail, const Shrink& once) const {
    if (once.nothing()) return;
    const Shrink all = once.repeated(weights_.threads);
    const std::size_t intercept = weights_.head.size() ? 0 : weights_.outputs;
    for (std::size_t i = std::max(begin_, intercept); i < end_; ++i) tail.move(i, all);
  }

  // The running mean of the iterates at every sweep of the tail: thread 0 takes the head's.
  template <class Own, class Cells> void average(const Own& head, const Cells& tail) const {
    const float part_of = 1 / float(++weights_.averaged[std::size_t(thread_)]);
    float* const mean = weights_.average.data();
    const std::size_t offset = weights_.head.size(),
                      met = std::min(offset, weights_.reach * weights_.outputs);
    for (std::size_t i = 0; thread_ == 0 && i < met; ++i) mean[i] += (head.load(i) - mean[i]) * part_of;
    for (std::size_t i = begin_; i < end_; ++i)
      mean[offset + i] += (tail.load(i) - mean[offset + i]) * part_of;
  }

 private:
  std::size_t edge(int thread) const { return models::edge(weights_.reached(), thread, weights_.threads); }

  Weights& weights_;
  int thread_;
  std::size_t begin_, end_;
};

}  // namespace loosestep::models
