// The number of examples between two sweeps of a thread: small at the beginning, where steps are largest,
// then doubled until it is the period.
#pragma once

#include <algorithm>
#include <cstdint>

namespace loosestep::models {

class MergePeriod {
 public:
  MergePeriod(std::uint64_t longest, bool warm_up)
      : longest_(longest), current_(warm_up ? std::min(first, longest) : longest) {}

  std::uint64_t current() const { return current_; }
  void grow() { current_ = std::min(longest_, 2 * current_); }

  // Return the number of sweeps in so many examples, from the current period on.
  std::uint64_t count(std::uint64_t examples) const {
    MergePeriod at = *this;
    std::uint64_t sweeps = 0;
    for (; examples > 0; ++sweeps, at.grow()) examples -= std::min(examples, at.current());
    return sweeps;
  }

 private:
  static constexpr std::uint64_t first = 64;

  std::uint64_t longest_, current_;
};

}  // namespace loosestep::models
