// After how many examples a thread sweeps: at the beginning, where steps are largest, soon; then twice as
// many each time, up to the period.
#pragma once

#include <algorithm>
#include <cstdint>

namespace loosestep::models {

class Periods {
 public:
  Periods(std::uint64_t longest, bool beginning)
      : longest_(longest), now_(beginning ? std::min(first, longest) : longest) {}

  std::uint64_t now() const { return now_; }
  void next() { now_ = std::min(longest_, 2 * now_); }

  // How often one sweeps for so many examples, from here on.
  std::uint64_t count(std::uint64_t examples) const {
    Periods at = *this;
    std::uint64_t sweeps = 0;
    for (; examples > 0; ++sweeps, at.next()) examples -= std::min(examples, at.now());
    return sweeps;
  }

 private:
  static constexpr std::uint64_t first = 64;

  std::uint64_t longest_, now_;
};

}  // namespace loosestep::models
