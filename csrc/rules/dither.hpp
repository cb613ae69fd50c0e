// Random rounding to whole levels: r becomes floor(r), or one more with the probability of what is left.
#pragma once
#include "rules/magnitude.hpp"

namespace loosestep {

// `word` is random; of 24 bits, so that no two types round differently.
template <class T> HD int dithered(T r, unsigned word) {
  const int below = int(r);
  return below + (T(word >> 8) * T(0x1p-24) < r - T(below));
}

// Return the level of x in units of 1 / scale, with its sign, at most `levels`.
template <class T> HD int signed_level(T x, T scale, int levels, unsigned word) {
  const T size = from_bits(Word<T>(size_of(x))) * scale, most = T(levels);
  const int level = dithered(size < most ? size : most, word);
  return bits(x) >> (8 * sizeof(T) - 1) ? -level : level;
}

}  // namespace loosestep
