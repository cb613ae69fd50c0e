// Where one of several shares begins that are as equal as can be; it ends where the next begins.
#pragma once

#include <cstddef>

namespace loosestep::models {

inline std::size_t split_begin(std::size_t n, int part, int parts) {
  return n * static_cast<std::size_t>(part) / static_cast<std::size_t>(parts);
}

}  // namespace loosestep::models
