// Sparse rows in the layout of the engine: one after the other, in each the entries of the head first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace loosestep::models {

struct Row {
  const std::uint32_t* places;  // in the model
  const float* values;
  std::uint32_t head, size;  // numbers of entries: in the head, and all
};

struct Rows {
  std::size_t count = 0, reach = 1;      // rows; the largest place of an entry plus 1
  const std::int64_t* starts = nullptr;  // count + 1
  const std::uint32_t* heads = nullptr;
  const std::uint32_t* places = nullptr;
  const float* values = nullptr;
  const float* targets = nullptr;
  const float* weights = nullptr;   // or null: all 1
  const float* coupling = nullptr;  // by element of the head: mean of |x_j| sum_i |x_i| (merge_weight.hpp)

  Row row(std::size_t i) const {
    const std::int64_t start = starts[i];
    return {places + start, values + start, heads[i], static_cast<std::uint32_t>(starts[i + 1] - start)};
  }
};

}  // namespace loosestep::models
