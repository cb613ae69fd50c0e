// Random numbers: a stream for every (seed, epoch, thread), the same on every machine.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace loosestep::models {

// SplitMix64 (Steele, Lea, Flood 2014): a mixed counter.
class Random {
 public:
  explicit Random(std::uint64_t seed, std::uint64_t epoch = 0, std::uint64_t thread = 0)
      : state_(mix(mix(mix(seed) + epoch) + thread)) {}

  std::uint64_t next() { return mix(state_ += golden); }

  // Return a number in [0, n), by multiplication: the bias is below n / 2^32.
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>((next() >> 32) * n >> 32); }

 private:
  static constexpr std::uint64_t golden = 0x9E3779B97F4A7C15u;

  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  std::uint64_t state_;
};

// Return 0 .. n-1 in random order (Fisher-Yates).
inline std::vector<std::uint32_t> random_permutation(std::uint32_t n, Random random) {
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  for (std::uint32_t left = n; left > 1; --left) std::swap(order[left - 1], order[random.below(left)]);
  return order;
}

}  // namespace loosestep::models
