// The pass of one thread over its part of the rows.
#pragma once

#include <algorithm>

#include "models/linear/cells.hpp"
#include "models/linear/epoch_state.hpp"
#include "models/linear/merge_period.hpp"
#include "models/linear/model.hpp"
#include "models/linear/row_kernels.hpp"
#include "models/linear/shrink.hpp"
#include "models/linear/tail_range.hpp"

namespace loosestep::models {

template <class Cells, bool adagrad, bool per_touch, bool several, class Watch> class Pass {
  using OwnCells = PlainCells<Float32>;

 public:
  Pass(LinearModel& model, typename Cells::Stored* tail, const Rows& rows, const EpochOptions& options,
       EpochState& state, int thread, Watch watch)
      : model_(model),
        rows_(rows),
        options_(options),
        state_(state),
        thread_(thread),
        random_(options.seed, options.epoch, std::uint64_t(thread)),
        outputs_(model.outputs),
        offset_(model.head.size()),
        head_(model.head.copy(thread), random_),
        head_squares_(model.head_squares.copy(thread), random_),
        tail_(tail, random_),
        squares_(model.squares.data(), random_),
        scores_(outputs_),
        tail_range_(model, thread),
        watch_(std::move(watch)),
        step_(options.steps + std::uint64_t(thread)),
        period_(options.period, options.epoch == 0) {}

  EpochStats run() {
    const std::size_t begin = first_row(thread_), end = first_row(thread_ + 1);
    const auto order = random_permutation(std::uint32_t((end - begin + chunk - 1) / chunk), random_);
    for (const std::uint32_t place : order) {
      const std::size_t first = begin + place * chunk;
      for (std::size_t i = first, last = std::min(end, first + chunk); i < last; ++i) {
        if (halted()) return take_stats();
        example(i);
      }
    }
    state_.update_order.leave(thread_);
    finish_pass();
    return take_stats();
  }

 private:
  // Rows were shuffled when they were laid out; an epoch visits chunks of them in a new order. Visiting
  // single rows in random order took 2.3 times as long (docs/results/hogwild.md).
  static constexpr std::size_t chunk = 256;

  std::size_t first_row(int thread) const {
    return rows_.count * std::size_t(thread) / std::size_t(model_.threads);
  }

  bool halted() const {
    if (options_.deterministic) return state_.barrier.stopped();
    return stats_.examples % 64 == 0 && state_.team.stopped();
  }

  void example(std::size_t i) {
    const Row row = rows_.row(i);
    state_.update_order.before_read();
    watch_.begin_example();
    predict(row);
    watch_.snapshot(tail_, row, offset_, outputs_);
    const bool any = slopes(i);
    const float eta = options_.rate.at(step_ + 1);
    state_.update_order.before_write(thread_);
    watch_.record_conflicts(tail_, row, offset_, outputs_);
    if (any || per_touch) update_row(row, eta);
    state_.update_order.after_write(thread_);
    step_ += std::uint64_t(model_.threads), length_ += eta;
    ++stats_.examples;
    if (++since_ == period_.current()) sweep();
  }

  // Replace the scores by the derivatives of the loss; return whether any is not 0.
  bool slopes(std::size_t i) {
    const float y = rows_.targets[i], weight = rows_.weights ? rows_.weights[i] : 1;
    const bool measured = i % options_.measure == 0;
    if constexpr (several) {
      if (measured) measure(options_.loss.value(scores_.data(), outputs_, std::size_t(y)) * weight);
      options_.loss.to_slopes(scores_.data(), outputs_, std::size_t(y));
      for (float& slope : scores_) slope *= weight;
      return weight != 0;
    }
    if (measured) measure(options_.loss.value(scores_[0], y) * weight);
    const float slope = options_.loss.slope(scores_[0], y);
    stats_.clipped += std::abs(slope) == Loss::steepest;
    return (scores_[0] = slope * weight) != 0;
  }

  void measure(double loss) { stats_.loss += loss, ++stats_.measured; }

  void predict(const Row& row) {
    for (std::size_t o = 0; o < outputs_; ++o) scores_[o] = offset_ ? head_.load(o) : tail_.load(o);
    add_dot(head_, row, 0, row.head, 0);
    add_dot(tail_, row, row.head, row.size, offset_);
  }

  template <class C>
  void add_dot(const C& cells, const Row& row, std::uint32_t k, std::uint32_t end, std::size_t offset) {
    if constexpr (several) {
      for (; k < end; ++k)
        for (std::size_t o = 0, at = row.places[k] * outputs_ - offset; o < outputs_; ++o)
          scores_[o] += cells.load(at + o) * row.values[k];
    } else {
      scores_[0] += dot(cells, row, k, end, offset);
    }
  }

  void update_row(const Row& row, float eta) {
    stats_.updates += row.size;
    if (options_.intercept_step > 0) {
      if (offset_)
        update_place(head_, head_squares_, 0, eta * options_.intercept_step, 1, 0);
      else
        update_place(tail_, squares_, 0, eta * options_.intercept_step, 1, 0);
    }
    update_entries(head_, head_squares_, row, 0, row.head, 0, eta);
    update_entries(tail_, squares_, row, row.head, row.size, offset_, eta);
  }

  template <class C, class S>
  void update_entries(C& cells, S& squares, const Row& row, std::uint32_t k, std::uint32_t end,
                      std::size_t offset, float eta) {
    if constexpr (!several && !adagrad && !per_touch)
      return subtract_scaled(cells, row, k, end, offset, eta * scores_[0]);
    for (; k < end; ++k) {
      const std::size_t place = row.places[k];
      update_place(cells, squares, place * (several ? outputs_ : 1) - offset, eta, row.values[k],
                   per_touch ? options_.per_touch[place] : 0);
    }
  }

  template <class C, class S>
  void update_place(C& cells, S& squares, std::size_t at, float eta, float x, float l2) {
    if constexpr (several)
      for (std::size_t o = 0; o < outputs_; ++o)
        update_element(cells, squares, at + o, eta, scores_[o], x, l2);
    else
      update_element(cells, squares, at, eta, scores_[0], x, l2);
  }

  // w <- w (1 - eta l2 / fraction) - (eta slope) x; AdaGrad divides eta by the root of the sum of squares.
  template <class C, class S>
  static void update_element(C& cells, S& squares, std::size_t i, float eta, float slope, float x, float l2) {
    if constexpr (adagrad) {
      const float g = slope * x;
      squares.update(i, [g](float sum) { return sum + g * g; });
      eta /= std::sqrt(squares.load(i)) + 1e-10f;
    }
    const float keep = per_touch ? std::max(0.0f, 1 - eta * l2) : 1, change = eta * slope * x;
    cells.update(i, [keep, change](float w) { return (per_touch ? w * keep : w) - change; });
  }

  void sweep() {
    const Shrink shrink(per_touch ? 0 : options_.l2, options_.l1, length_);
    const MergeWeight weight(model_.threads, options_.loss.curvature(), length_, rows_.coupling);
    if (options_.deterministic)
      fold(weight, shrink);
    else
      merge(weight, shrink);
    tail_length_ += length_;
    since_ = 0, length_ = 0, ++stats_.sweeps;
    period_.grow();
    if (stats_.sweeps % options_.tail_every == 0) sweep_tail();
  }

  void merge(const MergeWeight& weight, const Shrink& shrink) {
    model_.head.merge(thread_, weight, shrink);
    model_.head_squares.merge(thread_, MergeWeight::sums(), Shrink(0, 0, 0));
  }

  // All threads have done the same number of steps here.
  void fold(const MergeWeight& weight, const Shrink& shrink) {
    state_.barrier.arrive_and_wait();
    if (state_.barrier.stopped()) return;
    model_.head.fold(thread_, weight, shrink.repeated(model_.threads));
    model_.head_squares.fold(thread_, MergeWeight::sums(), Shrink(0, 0, 0));
    state_.barrier.arrive_and_wait();
  }

  void sweep_tail() {
    tail_range_.shrink(tail_, Shrink(per_touch ? 0 : options_.l2, options_.l1, tail_length_));
    if (options_.average) tail_range_.average(head_, tail_);
    tail_length_ = 0;
  }

  // Sweep after the last example. In a deterministic epoch all threads reach the barriers equally often: one
  // with fewer rows does so without examples.
  void finish_pass() {
    if (since_ > 0 || !options_.deterministic) sweep();
    if (options_.deterministic) match_barrier_count();
    if (tail_length_ > 0) sweep_tail();
  }

  void match_barrier_count() {
    const std::size_t threads = std::size_t(model_.threads), largest = (rows_.count + threads - 1) / threads;
    const std::uint64_t most = MergePeriod(options_.period, options_.epoch == 0).count(largest);
    while (stats_.sweeps < most && !state_.barrier.stopped()) sweep();
  }

  EpochStats take_stats() {
    if constexpr (requires { tail_.retried(); }) stats_.retried = tail_.retried();
    if constexpr (requires { watch_.stats; }) stats_.conflicts = std::move(watch_.stats);
    return std::move(stats_);
  }

  LinearModel& model_;
  const Rows& rows_;
  const EpochOptions& options_;
  EpochState& state_;
  int thread_;
  Random random_;
  std::size_t outputs_, offset_;

  OwnCells head_, head_squares_;
  Cells tail_;
  RacyCells<Float32> squares_;
  std::vector<float> scores_;  // replaced by slopes
  TailRange tail_range_;
  Watch watch_;

  EpochStats stats_;
  std::uint64_t step_, since_ = 0;
  MergePeriod period_;
  double length_ = 0,
         tail_length_ = 0;  // sums of step sizes since the last sweep, of the head and of the tail
};

}  // namespace loosestep::models
