// Where one of several shares begins that are as equal as can be; it ends where the next begins.
#pragma once

#include <cstddef>

namespace loosestep::models {

inline std::size_t edge(std::size_t n, int share, int shares) {
  return n * static_cast<std::size_t>(share) / static_cast<std::size_t>(shares);
}

}  // namespace loosestep::models
