// Numbers of few bits: a sign, then bits of the exponent, then bits behind the point, as in IEEE 754, with
// subnormal numbers and nothing that is infinite or no number. Rounded to nearest, ties to even. And
// bfloat16.
#pragma once
#include "rules/magnitude.hpp"

namespace loosestep {

template <int exponent, int fraction> struct Minifloat {
  static constexpr int bias = (1 << (exponent - 1)) - 1, shift = 23 - fraction;
  static constexpr int bits = 1 + exponent + fraction, behind = fraction;
  static constexpr unsigned rebias = static_cast<unsigned>(127 - bias) << 23;
  static constexpr unsigned least_normal = static_cast<unsigned>(128 - bias) << 23;
  // The number whose last bit is worth as much as the last bit of a subnormal one: adding it rounds there.
  static constexpr unsigned magic = static_cast<unsigned>(151 - bias - fraction) << 23;
  static constexpr unsigned sign = 1u << (exponent + fraction);

  // `x` must be below the largest number of the format. A sum rounds at the last bit of its larger term: that
  // is 2^shift times the power of two of x, or `magic` where x is subnormal.
  static HD unsigned code(float x) {
    const unsigned size = loosestep::bits(x) & 0x7fffffffu, power = size & 0x7f800000u;
    const unsigned larger = (power > least_normal ? power : least_normal) + (unsigned(shift) << 23);
    const unsigned rounded = loosestep::bits(from_bits(size) + from_bits(larger)) - larger;
    return (rounded + ((larger - magic) >> shift)) | (loosestep::bits(x) >> (32 - bits) & sign);
  }

  static HD float value(unsigned code) {
    const unsigned size = code & (sign - 1);
    const unsigned normal = (size << shift) + rebias;
    const unsigned subnormal = loosestep::bits(from_bits(size + magic) - from_bits(magic));
    return from_bits(chosen(size < (1u << fraction), subnormal, normal) | (code & sign) << (32 - bits));
  }

  // Without a branch, which would keep compilers from making vectors of a sum that may not be needed.
  static HD unsigned chosen(bool first, unsigned a, unsigned b) {
    return b ^ ((a ^ b) & (0u - static_cast<unsigned>(first)));
  }
};

struct Bfloat16 {
  static HD unsigned code(float x) {
    const unsigned size = loosestep::bits(x) & 0x7fffffffu;
    const unsigned made = (size + 0x7fffu + (size >> 16 & 1)) >> 16;
    return (made > 0x7f7fu ? 0x7f7fu : made) | (loosestep::bits(x) >> 16 & 0x8000u);
  }
  static HD float value(unsigned code) { return from_bits(code << 16); }
};

}  // namespace loosestep
