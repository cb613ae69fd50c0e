// One thread's part of the tail, which it regularizes and averages for the steps of all threads.
#pragma once

#include <algorithm>

#include "models/linear/model.hpp"
#include "models/linear/shrink.hpp"
#include "models/threads/even_split.hpp"

namespace loosestep::models {

class TailRange {
 public:
  TailRange(LinearModel& model, int thread)
      : model_(model), thread_(thread), begin_(bound(thread)), end_(bound(thread + 1)) {}

  template <class Cells> void shrink(Cells& tail, const Shrink& once) const {
    if (once.nothing()) return;
    const Shrink all = once.repeated(model_.threads);
    const std::size_t intercept = model_.head.size() ? 0 : model_.outputs;
    for (std::size_t i = std::max(begin_, intercept); i < end_; ++i) tail.update(i, all);
  }

  // Add the iterate to the running mean, at every sweep of the tail; thread 0 adds the head.
  template <class Own, class Cells> void average(const Own& head, const Cells& tail) const {
    const float part_of = 1 / float(++model_.averaged[std::size_t(thread_)]);
    float* const mean = model_.average.data();
    const std::size_t offset = model_.head.size(),
                      reached_head = std::min(offset, model_.reach * model_.outputs);
    for (std::size_t i = 0; thread_ == 0 && i < reached_head; ++i)
      mean[i] += (head.load(i) - mean[i]) * part_of;
    for (std::size_t i = begin_; i < end_; ++i)
      mean[offset + i] += (tail.load(i) - mean[offset + i]) * part_of;
  }

 private:
  std::size_t bound(int thread) const {
    return models::split_begin(model_.reached(), thread, model_.threads);
  }

  LinearModel& model_;
  int thread_;
  std::size_t begin_, end_;
};

}  // namespace loosestep::models
