// Splits n elements into parts of nearly the same size. A part ends where the next one begins.
#pragma once

#include <cstddef>

namespace loosestep::models {

inline std::size_t split_begin(std::size_t n, int part, int parts) {
  return n * static_cast<std::size_t>(part) / static_cast<std::size_t>(parts);
}

}  // namespace loosestep::models
