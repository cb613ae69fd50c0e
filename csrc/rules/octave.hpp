// A sign and three bits of exponent: 0 and the powers of two 2^(top - 6) to 2^top, the nearest of them,
// between two the larger from the middle on.
#pragma once
#include "rules/magnitude.hpp"

namespace loosestep {

template <class T> struct Octave {
  // Return the exponent of the power of two nearest to a size.
  static HD int nearest(Integer<T> size) {
    const Integer<T> half = Integer<T>(1) << (Layout<T>::fraction - 1);
    return int((size + half) >> Layout<T>::fraction) - Layout<T>::bias;
  }

  static HD unsigned code(T x, int top) {
    const Integer<T> size = size_of(x);
    const int level = nearest(size) - top + 7, capped = level > 7 ? 7 : level;
    const int least = int(size >> Layout<T>::fraction) - Layout<T>::bias >= top - 7 && size != 0;
    return unsigned(capped >= 1 ? capped : least) | (bits(x) >> (8 * sizeof(T) - 1) ? 8u : 0u);
  }

  // 2^(top - 6) must be a normal number.
  static HD T value(unsigned code, int top) {
    const unsigned level = code & 7;
    const Word<T> exponent =
        level ? Word<T>(int(level) + top - 7 + Layout<T>::bias) << Layout<T>::fraction : 0;
    return from_bits(exponent | Word<T>(code >> 3) << (8 * sizeof(T) - 1));
  }
};

}  // namespace loosestep
