// The free places of a stretch of memory.
#pragma once

#include <cstddef>
#include <iterator>
#include <map>
#include <optional>

namespace loosestep::shm {

class Extents {
 public:
  explicit Extents(std::size_t bytes) { free_.emplace(0, bytes); }

  // Take the first free place of that length and alignment; return where it begins, if there is one.
  std::optional<std::size_t> take(std::size_t length, std::size_t alignment) {
    for (const auto& [from, free] : free_) {
      const std::size_t begin = (from + alignment - 1) / alignment * alignment, end = from + free;
      if (begin > end || length > end - begin) continue;
      if (begin > from)
        free_[from] = begin - from;
      else
        free_.erase(from);
      if (begin + length < end) free_.emplace(begin + length, end - begin - length);
      return begin;
    }
    return std::nullopt;
  }

  void give_back(std::size_t begin, std::size_t length) {
    const auto after = free_.find(begin + length);
    if (after != free_.end()) {
      length += after->second;
      free_.erase(after);
    }
    const auto next = free_.lower_bound(begin);
    if (next != free_.begin() && std::prev(next)->first + std::prev(next)->second == begin)
      std::prev(next)->second += length;
    else
      free_.emplace(begin, length);
  }

 private:
  std::map<std::size_t, std::size_t> free_;  // begin and length, apart from each other
};

}  // namespace loosestep::shm
