// Chooses the stores that publish pieces: ordinary ones, which leave a piece in the caches, or streaming
// ones, which do not.
//
// Cache lines that another core has just read are slow to write, and slow to read from a distant core;
// between near cores the caches are twice as fast as memory. The cores of a virtual machine change between
// near and distant while it runs, so the choice is measured: rank 0 times its work on the pieces of
// collectives, tries the other kind for a few of them from time to time, and publishes the kind that all
// ranks use. The bits are the same (measurements: docs/results/collectives.md).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace loosestep::shm {

// The choice for calls of one size class.
class SizeChoice {
 public:
  explicit SizeChoice(bool streams = true) : preferred_(streams) {}

  bool streams() const { return preferred_ != in_trial_; }

  // Record the seconds per byte that a piece took on rank 0. The fastest of the last pieces of each kind are
  // compared: a time in which the process lost its core says nothing about stores.
  void record(bool streamed, double cost) {
    if (streamed != streams()) return;  // published before the last change
    ++pieces_;
    double& best = in_trial_ ? trial_cost_ : preferred_cost_;
    if (pieces_ > phase_length() - compared_pieces) best = std::min(best, cost);
    if (pieces_ == phase_length()) end_phase();
  }

 private:
  static constexpr int period = 256, trial = 5,
                       // pieces; at the beginning of a trial the memory is not in the caches
      compared_pieces = 3;
  static constexpr double required_gain = 0.9;
  static constexpr double never = std::numeric_limits<double>::infinity();

  int phase_length() const { return in_trial_ ? trial : period; }

  void end_phase() {
    const bool better = in_trial_ && trial_cost_ < required_gain * preferred_cost_;
    if (better) preferred_ = !preferred_;
    if (in_trial_) preferred_cost_ = trial_cost_ = never;
    in_trial_ = !in_trial_, pieces_ = 0;
  }

  bool preferred_, in_trial_ = false;
  int pieces_ = period - trial;  // the first trial comes soon
  double preferred_cost_ = never, trial_cost_ = never;
};

// The choices of rank 0 for eight size classes, a bit each: calls of 1, 2, 4, ... 128 or more slots.
class StoreChoices {
 public:
  // streams: what is preferred until it is measured.
  explicit StoreChoices(bool streams = true) { choices_.fill(SizeChoice(streams)); }

  static int class_of(std::size_t slots) {
    return std::clamp(static_cast<int>(std::bit_width(slots)), 1, 8) - 1;
  }
  static bool streams(std::uint8_t bits, int size_class) { return (bits >> size_class & 1) != 0; }

  std::uint8_t bits() const {
    unsigned bits = 0;
    for (std::size_t size_class = 0; size_class < choices_.size(); ++size_class)
      bits |= unsigned{choices_[size_class].streams()} << size_class;
    return static_cast<std::uint8_t>(bits);
  }

  void record(int size_class, bool streamed, double cost) {
    choices_[static_cast<std::size_t>(size_class)].record(streamed, cost);
  }

 private:
  std::array<SizeChoice, 8> choices_;
};

// The kinds of stores of all ranks, which rank 0 measures while it works and publishes: those of calls that
// copy pieces, and those of calls in place.
class MeasuredStores {
 public:
  static bool streams(const std::atomic<std::uint16_t>& published, bool direct, int size_class) {
    const unsigned bits = published.load(std::memory_order_relaxed);
    return StoreChoices::streams(static_cast<std::uint8_t>(direct ? bits >> 8 : bits), size_class);
  }

  void record(std::atomic<std::uint16_t>& published, bool direct, int size_class, bool streamed,
              double cost) {
    (direct ? direct_ : pieces_).record(size_class, streamed, cost);
    const unsigned bits = pieces_.bits() | unsigned{direct_.bits()} << 8;
    published.store(static_cast<std::uint16_t>(bits), std::memory_order_relaxed);
  }

 private:
  StoreChoices pieces_, direct_{false};
};

}  // namespace loosestep::shm
