// Formats of few bits whose blocks share an exponent e, which travels with them. For host and device.
#pragma once
#include "rules/minifloat.hpp"
#include "rules/octave.hpp"

namespace loosestep {

// Codes of F for values times 2^(top - e), where |x| < 2^e in the block and the largest code is above 2^top.
template <class F, int top_, unsigned block_> struct ScaledBlocks {
  using Number = F;
  static constexpr int top = top_, bits = F::bits;
  static constexpr unsigned block = block_;

  // Return e, of the largest size of a block.
  template <class T> static HD int exponent(Integer<T> most) {
    const int e = exponent_above<T>(most);
    return e < Layout<T>::least ? Layout<T>::least : e;
  }
  template <class T> static HD unsigned code(T x, int e) {
    return F::code(narrowed(x * power_of_two<T>(top - e)));
  }
  template <class T> static HD T value(unsigned code, int e) {
    return limited(T(F::value(code)) * power_of_two<T>(e - top));
  }
};

// Signs and powers of two up to 2^e.
struct OctaveBlocks {
  static constexpr int bits = 4;
  static constexpr unsigned block = 64;

  template <class T> static HD int exponent(Integer<T> most) {
    const int e = Octave<T>::nearest(most);
    return e < Layout<T>::least ? Layout<T>::least : e > Layout<T>::bias ? Layout<T>::bias : e;
  }
  template <class T> static HD unsigned code(T x, int e) { return Octave<T>::code(x, e); }
  template <class T> static HD T value(unsigned code, int e) { return Octave<T>::value(code, e); }
};

using HalfBlocks = ScaledBlocks<Minifloat<5, 10>, 15, 256>;
using E4m3Blocks = ScaledBlocks<Minifloat<4, 3>, 8, 256>;
using E5m2Blocks = ScaledBlocks<Minifloat<5, 2>, 15, 256>;

}  // namespace loosestep
