// One thread's pass over its share of the rows.
#pragma once

#include <algorithm>

#include "models/cells.hpp"
#include "models/line.hpp"
#include "models/linear.hpp"
#include "models/periods.hpp"
#include "models/shop.hpp"
#include "models/shrink.hpp"
#include "models/stretch.hpp"

namespace loosestep::models {

template <class Cells, bool adagrad, bool per_touch, bool several, class Watch> class Pass {
  using Own = Plain<Whole>;

 public:
  Pass(Weights& weights, typename Cells::Stored* tail, const Rows& rows, const Training& training, Shop& shop,
       int thread, Watch watch)
      : weights_(weights),
        rows_(rows),
        training_(training),
        shop_(shop),
        thread_(thread),
        random_(training.seed, training.epoch, std::uint64_t(thread)),
        outputs_(weights.outputs),
        offset_(weights.head.size()),
        head_(weights.head.copy(thread), random_),
        head_squares_(weights.head_squares.copy(thread), random_),
        tail_(tail, random_),
        squares_(weights.squares.data(), random_),
        scores_(outputs_),
        stretch_(weights, thread),
        watch_(std::move(watch)),
        step_(training.steps + std::uint64_t(thread)),
        periods_(training.period, training.epoch == 0) {}

  Told run() {
    const std::size_t begin = share(thread_), end = share(thread_ + 1);
    const auto order = shuffled(std::uint32_t((end - begin + chunk - 1) / chunk), random_);
    for (const std::uint32_t place : order) {
      const std::size_t first = begin + place * chunk;
      for (std::size_t i = first, last = std::min(end, first + chunk); i < last; ++i) {
        if (halted()) return finished();
        example(i);
      }
    }
    shop_.gate.leave(thread_);
    catch_up();
    return finished();
  }

 private:
  // Rows were shuffled when they were laid out; an epoch visits chunks of them in a new order. Visiting
  // single rows in random order took 2.3 times as long (docs/results/hogwild.md).
  static constexpr std::size_t chunk = 256;

  std::size_t share(int thread) const {
    return rows_.count * std::size_t(thread) / std::size_t(weights_.threads);
  }

  bool halted() const {
    if (training_.deterministic) return shop_.meeting.stopped();
    return told_.examples % 64 == 0 && shop_.crew.stopped();
  }

  void example(std::size_t i) {
    const Row row = rows_.row(i);
    shop_.gate.read();
    watch_.tick();
    predict(row);
    watch_.read(tail_, row, offset_, outputs_);
    const bool any = slopes(i);
    const float eta = training_.rate.at(step_ + 1);
    shop_.gate.write(thread_);
    watch_.compare(tail_, row, offset_, outputs_);
    if (any || per_touch) move(row, eta);
    shop_.gate.done(thread_);
    step_ += std::uint64_t(weights_.threads), length_ += eta;
    ++told_.examples;
    if (++since_ == periods_.now()) sweep();
  }

  // The scores become the slopes of the loss; whether any is not 0.
  bool slopes(std::size_t i) {
    const float y = rows_.targets[i], weight = rows_.weights ? rows_.weights[i] : 1;
    const bool measured = i % training_.measure == 0;
    if constexpr (several) {
      if (measured) measure(training_.loss.value(scores_.data(), outputs_, std::size_t(y)) * weight);
      training_.loss.to_slopes(scores_.data(), outputs_, std::size_t(y));
      for (float& slope : scores_) slope *= weight;
      return weight != 0;
    }
    if (measured) measure(training_.loss.value(scores_[0], y) * weight);
    const float slope = training_.loss.slope(scores_[0], y);
    told_.cut += std::abs(slope) == Loss::steepest;
    return (scores_[0] = slope * weight) != 0;
  }

  void measure(double loss) { told_.loss += loss, ++told_.measured; }

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

  void move(const Row& row, float eta) {
    told_.updates += row.size;
    if (training_.intercept_step > 0) {
      if (offset_)
        move_place(head_, head_squares_, 0, eta * training_.intercept_step, 1, 0);
      else
        move_place(tail_, squares_, 0, eta * training_.intercept_step, 1, 0);
    }
    move_all(head_, head_squares_, row, 0, row.head, 0, eta);
    move_all(tail_, squares_, row, row.head, row.size, offset_, eta);
  }

  template <class C, class S>
  void move_all(C& cells, S& squares, const Row& row, std::uint32_t k, std::uint32_t end, std::size_t offset,
                float eta) {
    if constexpr (!several && !adagrad && !per_touch)
      return shift(cells, row, k, end, offset, eta * scores_[0]);
    for (; k < end; ++k) {
      const std::size_t place = row.places[k];
      move_place(cells, squares, place * (several ? outputs_ : 1) - offset, eta, row.values[k],
                 per_touch ? training_.per_touch[place] : 0);
    }
  }

  template <class C, class S>
  void move_place(C& cells, S& squares, std::size_t at, float eta, float x, float l2) {
    if constexpr (several)
      for (std::size_t o = 0; o < outputs_; ++o) move_one(cells, squares, at + o, eta, scores_[o], x, l2);
    else
      move_one(cells, squares, at, eta, scores_[0], x, l2);
  }

  // w <- w (1 - eta l2 / share) - (eta slope) x, the step of AdaGrad divided by the root of the squares' sum.
  template <class C, class S>
  static void move_one(C& cells, S& squares, std::size_t i, float eta, float slope, float x, float l2) {
    if constexpr (adagrad) {
      const float g = slope * x;
      squares.move(i, [g](float sum) { return sum + g * g; });
      eta /= std::sqrt(squares.load(i)) + 1e-10f;
    }
    const float keep = per_touch ? std::max(0.0f, 1 - eta * l2) : 1, change = eta * slope * x;
    cells.move(i, [keep, change](float w) { return (per_touch ? w * keep : w) - change; });
  }

  void sweep() {
    const Shrink shrink(per_touch ? 0 : training_.l2, training_.l1, length_);
    const Combine combine(weights_.threads, training_.loss.curvature(), length_, rows_.coupling);
    if (training_.deterministic)
      fold(combine, shrink);
    else
      merge(combine, shrink);
    tail_length_ += length_;
    since_ = 0, length_ = 0, ++told_.sweeps;
    periods_.next();
    if (told_.sweeps % training_.tail_every == 0) sweep_tail();
  }

  void merge(const Combine& combine, const Shrink& shrink) {
    weights_.head.merge(thread_, combine, shrink);
    weights_.head_squares.merge(thread_, Combine::sums(), Shrink(0, 0, 0));
  }

  // Every thread has done as many steps as this one.
  void fold(const Combine& combine, const Shrink& shrink) {
    shop_.meeting.meet();
    if (shop_.meeting.stopped()) return;
    weights_.head.fold(thread_, combine, shrink.repeated(weights_.threads));
    weights_.head_squares.fold(thread_, Combine::sums(), Shrink(0, 0, 0));
    shop_.meeting.meet();
  }

  void sweep_tail() {
    stretch_.shrink(tail_, Shrink(per_touch ? 0 : training_.l2, training_.l1, tail_length_));
    if (training_.average) stretch_.average(head_, tail_);
    tail_length_ = 0;
  }

  // What is left of the pass. In a deterministic epoch all meet equally often: a thread with fewer rows comes
  // without any.
  void catch_up() {
    if (since_ > 0 || !training_.deterministic) sweep();
    if (training_.deterministic) meet_as_often();
    if (tail_length_ > 0) sweep_tail();
  }

  void meet_as_often() {
    const std::size_t threads = std::size_t(weights_.threads),
                      largest = (rows_.count + threads - 1) / threads;
    const std::uint64_t most = Periods(training_.period, training_.epoch == 0).count(largest);
    while (told_.sweeps < most && !shop_.meeting.stopped()) sweep();
  }

  Told finished() {
    if constexpr (requires { tail_.retried(); }) told_.retried = tail_.retried();
    if constexpr (requires { watch_.seen; }) told_.seen = std::move(watch_.seen);
    return std::move(told_);
  }

  Weights& weights_;
  const Rows& rows_;
  const Training& training_;
  Shop& shop_;
  int thread_;
  Random random_;
  std::size_t outputs_, offset_;

  Own head_, head_squares_;
  Cells tail_;
  Racy<Whole> squares_;
  std::vector<float> scores_;  // then slopes
  Stretch stretch_;
  Watch watch_;

  Told told_;
  std::uint64_t step_, since_ = 0;
  Periods periods_;
  double length_ = 0,
         tail_length_ = 0;  // sums of step sizes since the last sweep, of the head and of the tail
};

}  // namespace loosestep::models
