// Loops over the entries [k, end) of one row, for a model with one output. Pointers and cells are copied
// first: otherwise the compiler would have to read them again after every store to the model.
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/linear/rows.hpp"

namespace loosestep::models {

// Return sum w_j x_j. With a single running sum each addition would wait for the previous one.
template <class C>
float dot(const C& cells, const Row& row, std::uint32_t k, std::uint32_t end, std::size_t offset) {
  const C own = cells;
  const std::uint32_t* const places = row.places;
  const float* const values = row.values;
  const auto product = [&](std::uint32_t i) { return own.load(places[i] - offset) * values[i]; };
  float a = 0, b = 0, c = 0, d = 0;
  for (; k + 4 <= end; k += 4) {  // prefetch the rows 2 KiB ahead
    __builtin_prefetch(values + k + 512), __builtin_prefetch(places + k + 512);
    a += product(k), b += product(k + 1), c += product(k + 2), d += product(k + 3);
  }
  if (k < end) a += product(k);
  if (k + 1 < end) b += product(k + 1);
  if (k + 2 < end) c += product(k + 2);
  return (a + b) + (c + d);
}

// Do w_j <- w_j - step x_j.
template <class C>
void subtract_scaled(C& cells, const Row& row, std::uint32_t k, std::uint32_t end, std::size_t offset,
                     float step) {
  C own = cells;
  const std::uint32_t* const places = row.places;
  const float* const values = row.values;
#pragma GCC unroll 4
  for (; k < end; ++k) {
    const float change = step * values[k];
    own.update(places[k] - offset, [change](float w) { return w - change; });
  }
  cells = own;
}

}  // namespace loosestep::models
