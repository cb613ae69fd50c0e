// The dot product of a row's entries [k, end) with the model's cells.
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/rows.hpp"

namespace loosestep::models {

// Four running sums: one would wait for every addition.
template <class C>
float dot(const C& cells, const Row& row, std::uint32_t k, std::uint32_t end, std::size_t offset) {
  float sums[4] = {};
  for (; k + 4 <= end; k += 4)
    for (std::uint32_t lane = 0; lane < 4; ++lane)
      sums[lane] += cells.load(row.places[k + lane] - offset) * row.values[k + lane];
  for (std::uint32_t lane = 0; k < end; ++k, ++lane)
    sums[lane] += cells.load(row.places[k] - offset) * row.values[k];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace loosestep::models
