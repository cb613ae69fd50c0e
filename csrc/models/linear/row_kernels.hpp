// What one row does with a model of one output: its entries [k, end) are multiplied with the weights at their
// places, or shift them. Pointers and cells are copied first: else every store to the model, which could be
// to them for all that the compiler knows, would make it read them again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/linear/rows.hpp"

namespace loosestep::models {

// sum w_j x_j. Four running sums: one would wait for every addition.
template <class C>
float dot(const C& cells, const Row& row, std::uint32_t k, std::uint32_t end, std::size_t offset) {
  const C own = cells;
  const std::uint32_t* const places = row.places;
  const float* const values = row.values;
  const auto product = [&](std::uint32_t i) { return own.load(places[i] - offset) * values[i]; };
  float a = 0, b = 0, c = 0, d = 0;
  for (; k + 4 <= end; k += 4) {  // rows lie one behind the other: 2 KiB on are those to come
    __builtin_prefetch(values + k + 512), __builtin_prefetch(places + k + 512);
    a += product(k), b += product(k + 1), c += product(k + 2), d += product(k + 3);
  }
  if (k < end) a += product(k);
  if (k + 1 < end) b += product(k + 1);
  if (k + 2 < end) c += product(k + 2);
  return (a + b) + (c + d);
}

// w_j <- w_j - step x_j.
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
