// How threads read and update the elements of a vector: update(i, f) is x_i <- f(x_i).
// PlainCells: for one thread. RacyCells: a relaxed load and a relaxed store; the update of another thread in
// between is lost. ExactCells: compare-exchange; nothing is lost, f is evaluated again on the newer value.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "models/threads/random.hpp"

namespace loosestep::models {

inline constexpr auto relaxed = std::memory_order_relaxed;

// bfloat16, rounded up or down at random so that the mean is exact (De Sa et al. 2015).
class StochasticBfloat16 {
 public:
  using Stored = std::uint16_t;
  explicit StochasticBfloat16(Random random) : random_(random) {}

  static float to_float(Stored bits) { return std::bit_cast<float>(std::uint32_t(bits) << 16); }
  Stored from_float(float value) {
    return static_cast<Stored>((std::bit_cast<std::uint32_t>(value) + random16()) >> 16);
  }

 private:
  std::uint32_t random16() {
    if (left_ == 0) bits_ = random_.next(), left_ = 4;
    --left_;
    const auto low = static_cast<std::uint32_t>(bits_ & 0xFFFF);
    bits_ >>= 16;
    return low;
  }

  Random random_;
  std::uint64_t bits_ = 0;
  int left_ = 0;
};

class Float32 {
 public:
  using Stored = float;
  explicit Float32(Random) {}
  static float to_float(float value) { return value; }
  static float from_float(float value) { return value; }
};

template <class Precision> class PlainCells {
 public:
  using Stored = typename Precision::Stored;
  PlainCells(Stored* x, Random random) : x_(x), precision_(random) {}
  float load(std::size_t i) const { return Precision::to_float(x_[i]); }
  template <class F> void update(std::size_t i, F f) { x_[i] = precision_.from_float(f(load(i))); }

 private:
  Stored* x_;
  Precision precision_;
};

template <class Precision> class RacyCells {
 public:
  using Stored = typename Precision::Stored;
  RacyCells(Stored* x, Random random) : x_(x), precision_(random) {}
  float load(std::size_t i) const { return Precision::to_float(std::atomic_ref(x_[i]).load(relaxed)); }
  template <class F> void update(std::size_t i, F f) {
    std::atomic_ref(x_[i]).store(precision_.from_float(f(load(i))), relaxed);
  }

 private:
  Stored* x_;
  Precision precision_;
};

template <class Precision> class ExactCells {
 public:
  using Stored = typename Precision::Stored;
  ExactCells(Stored* x, Random random) : x_(x), precision_(random) {}
  float load(std::size_t i) const { return Precision::to_float(std::atomic_ref(x_[i]).load(relaxed)); }
  template <class F> void update(std::size_t i, F f) {
    std::atomic_ref shared(x_[i]);
    Stored before = shared.load(relaxed);
    while (
        !shared.compare_exchange_weak(before, precision_.from_float(f(Precision::to_float(before))), relaxed))
      ++retried_;
  }
  std::uint64_t retried() const { return retried_; }  // updates that a racy one would have lost

 private:
  Stored* x_;
  Precision precision_;
  std::uint64_t retried_ = 0;
};

}  // namespace loosestep::models
