// How collectives of each size are carried out: the same on all ranks of a host, which measured it or were
// told.
#pragma once

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "shm/layout.hpp"

namespace loosestep::shm {

struct Forms {
  using Piece = std::pair<std::size_t, std::size_t>;  // calls from so many bytes on have pieces of so many

  // Calls from so many bytes on are done in place where all vectors lie in the arena: it costs one more
  // synchronization, and saves a copy.
  std::size_t direct_from = 32 * 1024;
  std::vector<Piece> pieces{{0, slot_bytes}};
  bool spins = false;  // who waits spins: there is a core for every rank

  static Forms checked(std::size_t direct_from, std::vector<Piece> pieces, bool spins) {
    if (pieces.empty() || pieces.front().first != 0 || !std::ranges::is_sorted(pieces))
      throw std::invalid_argument("pieces must begin with one for calls from 0 bytes on, in order of size");
    for (const auto& [from, bytes] : pieces)
      if (bytes < 4096 || bytes > slot_bytes || bytes % 4096 != 0)
        throw std::invalid_argument("pieces must be multiples of 4096 up to " + std::to_string(slot_bytes) +
                                    " bytes, got " + std::to_string(bytes));
    return {direct_from, std::move(pieces), spins};
  }

  std::size_t piece_of(std::size_t bytes) const {
    std::size_t piece = slot_bytes;
    for (const auto& [from, size] : pieces)
      if (bytes >= from) piece = size;
    return piece;
  }
};

}  // namespace loosestep::shm
