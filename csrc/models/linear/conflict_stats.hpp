// Conflicts between threads, sampled on every sixteenth example: what others changed between the reading and
// the writing of its coordinates.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

#include "models/linear/rows.hpp"

namespace loosestep::models {

// The number of examples that each thread has done, on a cache line each.
class ExampleCounters {
 public:
  explicit ExampleCounters(int threads) : counts_(std::size_t(threads)) {}
  void increment(int thread) { counts_[std::size_t(thread)].value.fetch_add(1, std::memory_order_relaxed); }
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

struct ConflictStats {
  std::uint64_t examples = 0, coordinates = 0, conflicts = 0;
  std::array<std::uint64_t, 24> staleness{};  // [k]: samples with 2^(k-1) to 2^k - 1 examples of other
                                              // threads in between; [0]: with none
  std::vector<std::uint32_t> places;          // of conflicts
};

class NoConflictWatch {
 public:
  void begin_example() {}
  template <class Cells> void snapshot(const Cells&, const Row&, std::size_t, std::size_t) {}
  template <class Cells> void record_conflicts(const Cells&, const Row&, std::size_t, std::size_t) {}
};

class ConflictWatch {
 public:
  ConflictWatch(ExampleCounters& counters, int thread) : counters_(counters), thread_(thread) {}

  void begin_example() { counters_.increment(thread_), sampled_ = ++count_ % sample_every == 0; }

  template <class Cells>
  void snapshot(const Cells& cells, const Row& row, std::size_t offset, std::size_t outputs) {
    if (!sampled_) return;
    before_ = counters_.others(thread_);
    values_.clear();
    for (std::uint32_t k = row.head; k < row.size; ++k)
      values_.push_back(cells.load(row.places[k] * outputs - offset));
  }

  template <class Cells>
  void record_conflicts(const Cells& cells, const Row& row, std::size_t offset, std::size_t outputs) {
    if (!sampled_) return;
    ++stats.examples;
    ++stats.staleness[std::size_t(
        std::min(static_cast<int>(std::bit_width(counters_.others(thread_) - before_)), 23))];
    for (std::uint32_t k = row.head; k < row.size; ++k, ++stats.coordinates)
      if (cells.load(row.places[k] * outputs - offset) != values_[k - row.head]) add_conflict(row.places[k]);
  }

  ConflictStats stats;

 private:
  static constexpr std::uint64_t sample_every = 16;
  static constexpr std::size_t max_places = 1 << 20;

  void add_conflict(std::uint32_t place) {
    ++stats.conflicts;
    if (stats.places.size() < max_places) stats.places.push_back(place);
  }

  ExampleCounters& counters_;
  int thread_;
  std::uint64_t count_ = 0, before_ = 0;
  bool sampled_ = false;
  std::vector<float> values_;
};

}  // namespace loosestep::models
