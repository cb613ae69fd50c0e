// A stream of normal random numbers: number i is one of the four of counter (i / 4, stream, step) under the
// key `seed`. Computed in float32 for any type of buffer, by polynomials with +, -, * and sqrt alone, so host
// and device give the same bits (logarithm and cosine of a library differ between machines).
#pragma once
#include "rules/philox.hpp"

namespace loosestep {

struct Noise {
  unsigned long long seed;
  unsigned stream, step;
};

struct Four {
  float a, b, c, d;
};

// ln x for x in (0, 1]: x = 2^e (1 + f) with 1 + f from sqrt(1/2) to sqrt(2). Error below 2e-7 of ln x.
HD float logarithm(float x) {
  const int moved = static_cast<int>(bits(x) + (0x3F800000u - 0x3F3504F3u));
  const float e = static_cast<float>((moved >> 23) - 127);
  const float f = from_bits((static_cast<unsigned>(moved) & 0x7FFFFFu) + 0x3F3504F3u) - 1.0f;
  float p = 0.08700435f * f - 0.14267486f;
  p = p * f + 0.14914769f;
  p = p * f - 0.16577585f;
  p = p * f + 0.19963063f;
  p = p * f - 0.25001338f;
  p = p * f + 0.3333391f;
  const float square = f * f;
  return (f - (0.5f * square - square * f * p)) + e * 0.6931472f;
}

struct Pair {
  float a, b;
};

// Return the cosine and sine of x / 2^32 of a turn. The nearest quarter turn is subtracted exactly.
HD Pair around(unsigned x) {
  const unsigned quarter = (x + 0x20000000u) >> 30;
  const float s = static_cast<float>(static_cast<int>(x - (quarter << 30))) * 1.86264515e-9f;  // 2^-29
  const float t = s * s;
  const float sine = s * (((-3.595451e-05f * t + 0.002490007f) * t - 0.080745436f) * t + 0.7853982f);
  const float cosine =
      (((3.5298112e-06f * t - 0.00032593863f) * t + 0.015854325f) * t - 0.30842513f) * t + 1.0f;
  const bool odd = quarter & 1u;
  const float first = odd ? sine : cosine, second = odd ? cosine : sine;
  const unsigned flip_first = ((quarter + 1u) & 2u) << 30, flip_second = (quarter & 2u) << 30;
  return {from_bits(bits(first) ^ flip_first), from_bits(bits(second) ^ flip_second)};
}

// Return two normal numbers (Box and Muller): a length from the first word (in (0, 1], so at most 6.8) and a
// direction from the second.
HD Pair two_normals(unsigned x, unsigned y) {
  const float u = static_cast<float>(x) * 2.3283064e-10f + 1.1641532e-10f;  // 2^-32, 2^-33
  const float length = root(-2.0f * logarithm(u));
  const Pair to = around(y);
  return {length * to.a, length * to.b};
}

HD Words words(const Noise& noise, unsigned long long four) {
  return philox({static_cast<unsigned>(four), static_cast<unsigned>(four >> 32), noise.stream, noise.step},
                {static_cast<unsigned>(noise.seed), static_cast<unsigned>(noise.seed >> 32)});
}

// Return numbers 4 i .. 4 i + 3 of the stream, i = `four`.
HD Four normals(const Noise& noise, unsigned long long four) {
  const Words made = words(noise, four);
  const Pair first = two_normals(made.a, made.b), second = two_normals(made.c, made.d);
  return {first.a, first.b, second.a, second.b};
}

}  // namespace loosestep
