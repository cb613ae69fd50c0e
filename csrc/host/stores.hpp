// Which stores fill the rooms: ordinary ones, which leave a piece in the caches, or streaming ones, which do
// not.
//
// Lines that another core has just read are slow to write, and from a distant core slow to read; between near
// cores the caches are twice as fast as memory. A virtual machine's cores change between near and distant
// while it runs, so the choice is one of measuring: rank 0 times its work on live pieces, tries the other
// kind for a few of them now and then, and says which kind all ranks use. The
// bits are the same (docs/results/collectives.md has the figures).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace loosestep::host {

// Streaming or not, for calls of one size.
class StoreChoice {
 public:
  bool next() const { return streaming_ != trying_; }

  // A piece that was put out so took rank 0 so many seconds a byte. The last few pieces of each kind are
  // compared by the fastest: whoever loses the processor in the middle says nothing about stores.
  void took(bool streamed, double cost) {
    if (streamed != next()) return;  // decided before the last change
    ++pieces_;
    double& best = trying_ ? other_ : own_;
    if (pieces_ > length() - compared) best = std::min(best, cost);
    if (pieces_ == length()) turn();
  }

 private:
  static constexpr int period = 256, trial = 5,
                       compared = 3;  // pieces; a trial's first ones find both rooms cold
  static constexpr double clearly = 0.9;
  static constexpr double never = std::numeric_limits<double>::infinity();

  int length() const { return trying_ ? trial : period; }

  void turn() {
    const bool better = trying_ && other_ < clearly * own_;
    if (better) streaming_ = !streaming_;
    if (trying_) own_ = other_ = never;
    trying_ = !trying_, pieces_ = 0;
  }

  bool streaming_ = true, trying_ = false;
  int pieces_ = period - trial;  // the first trial comes soon
  double own_ = never, other_ = never;
};

// What rank 0 has found, a bit for each of eight sizes: calls of 1, 2, 4, ... 128 and more pieces.
class Stores {
 public:
  static int size_of(std::size_t pieces) {
    return std::clamp(static_cast<int>(std::bit_width(pieces)), 1, 8) - 1;
  }
  static bool streams(std::uint8_t said, int size) { return (said >> size & 1) != 0; }

  std::uint8_t said() const {
    unsigned bits = 0;
    for (std::size_t size = 0; size < choices_.size(); ++size)
      bits |= unsigned{choices_[size].next()} << size;
    return static_cast<std::uint8_t>(bits);
  }

  void took(int size, bool streamed, double cost) {
    choices_[static_cast<std::size_t>(size)].took(streamed, cost);
  }

 private:
  std::array<StoreChoice, 8> choices_;
};

}  // namespace loosestep::host
