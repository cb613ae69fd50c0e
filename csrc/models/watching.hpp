// What threads do to each other, seen on every sixteenth example: how much others moved between the reading
// of an example's coordinates and their writing.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

#include "models/rows.hpp"

namespace loosestep::models {

// How many examples each thread has done, each count on a cache line of its own.
class Clocks {
 public:
  explicit Clocks(int threads) : counts_(std::size_t(threads)) {}
  void tick(int thread) { counts_[std::size_t(thread)].value.fetch_add(1, std::memory_order_relaxed); }
  std::uint64_t others(int thread) const {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i)
      if (i != std::size_t(thread)) sum += counts_[i].value.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  struct alignas(64) Count {
    std::atomic<std::uint64_t> value{0};
  };
  std::vector<Count> counts_;
};

struct Seen {
  std::uint64_t examples = 0, coordinates = 0, conflicts = 0;
  std::array<std::uint64_t, 24>
      staleness{};                    // [k]: others' examples in between, in [2^(k-1), 2^k); [0]: none
  std::vector<std::uint32_t> places;  // the conflicts'
};

class Unwatched {
 public:
  void tick() {}
  template <class Cells> void read(const Cells&, const Row&, std::size_t, std::size_t) {}
  template <class Cells> void compare(const Cells&, const Row&, std::size_t, std::size_t) {}
};

class Watched {
 public:
  Watched(Clocks& clocks, int thread) : clocks_(clocks), thread_(thread) {}

  void tick() { clocks_.tick(thread_), watching_ = ++count_ % every == 0; }

  template <class Cells>
  void read(const Cells& cells, const Row& row, std::size_t offset, std::size_t outputs) {
    if (!watching_) return;
    before_ = clocks_.others(thread_);
    values_.clear();
    for (std::uint32_t k = row.head; k < row.size; ++k)
      values_.push_back(cells.load(row.places[k] * outputs - offset));
  }

  template <class Cells>
  void compare(const Cells& cells, const Row& row, std::size_t offset, std::size_t outputs) {
    if (!watching_) return;
    ++seen.examples;
    ++seen.staleness[std::size_t(
        std::min(static_cast<int>(std::bit_width(clocks_.others(thread_) - before_)), 23))];
    for (std::uint32_t k = row.head; k < row.size; ++k, ++seen.coordinates)
      if (cells.load(row.places[k] * outputs - offset) != values_[k - row.head]) note(row.places[k]);
  }

  Seen seen;

 private:
  static constexpr std::uint64_t every = 16;
  static constexpr std::size_t most = 1 << 20;

  void note(std::uint32_t place) {
    ++seen.conflicts;
    if (seen.places.size() < most) seen.places.push_back(place);
  }

  Clocks& clocks_;
  int thread_;
  std::uint64_t count_ = 0, before_ = 0;
  bool watching_ = false;
  std::vector<float> values_;
};

}  // namespace loosestep::models
