// Random rounding in buckets (QSGD). A message: the length of each bucket, float32, then a level for each
// value, 0 being the most negative. Compiled once for each instruction set.
#pragma once

#include "codecs/packed.hpp"
#include "codecs/sign.hpp"
#include "rules/dither.hpp"
#include "rules/philox.hpp"

namespace loosestep::codecs {
namespace {

HD size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

constexpr size_t at_once = 256;  // values of a bucket

// Four random words of each counter, in columns, which compilers vectorize.
struct Random {
  alignas(64) unsigned of[at_once];
};

#if defined(__AVX512F__)
// Sixteen counters of Philox side by side.
struct Sixteen {
  __m512i a, b, c, d;
};

// Return the upper halves of products.
HD __m512i high(__m512i x, __m512i factor) {
  const __m512i even = _mm512_maskz_mul_epu32(0xff, x, factor),
                odd = _mm512_maskz_mul_epu32(0xff, _mm512_maskz_srli_epi64(0xff, x, 32), factor);
  return _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
}

template <int rounds> HD Sixteen philox(Sixteen at, Key key) {
  const __m512i one = _mm512_set1_epi32(static_cast<int>(0xCD9E8D57u)),
                other = _mm512_set1_epi32(static_cast<int>(0xD2511F53u));
  for (int round = 0; round < rounds; ++round) {
    const __m512i left = _mm512_set1_epi32(static_cast<int>(key.a)),
                  right = _mm512_set1_epi32(static_cast<int>(key.b));
    at = {_mm512_ternarylogic_epi32(high(at.c, one), at.b, left, 0x96), _mm512_mullo_epi32(at.c, one),
          _mm512_ternarylogic_epi32(high(at.a, other), at.d, right, 0x96), _mm512_mullo_epi32(at.a, other)};
    key = {key.a + 0x9E3779B9u, key.b + 0xBB67AE85u};
  }
  return at;
}

// Where the lower half of the counter does not overflow.
HD void draw_wide(Random& words, Key key, unsigned long long first) {
  constexpr size_t many = at_once / 4;
  const __m512i zero = _mm512_setzero_si512(), top = _mm512_set1_epi32(static_cast<int>(first >> 32)),
                lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (size_t i = 0; i < many; i += 16) {
    const __m512i place = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(first + i)), lane);
    const Sixteen made = philox<7>({place, top, zero, zero}, key);
    _mm512_store_si512(words.of + i, made.a), _mm512_store_si512(words.of + many + i, made.b);
    _mm512_store_si512(words.of + 2 * many + i, made.c), _mm512_store_si512(words.of + 3 * many + i, made.d);
  }
}
#endif

HD void draw(Random& words, unsigned long long key, unsigned long long first) {
  const Key halves{static_cast<unsigned>(key), static_cast<unsigned>(key >> 32)};
  constexpr size_t many = at_once / 4;
#if defined(__AVX512F__)
  if (static_cast<unsigned>(first) <= ~0u - many) return draw_wide(words, halves, first);
#endif
  INDEPENDENT
  for (size_t i = 0; i < many; ++i) {
    const unsigned long long place = first + i;
    const Words made =
        philox<7>({static_cast<unsigned>(place), static_cast<unsigned>(place >> 32), 0, 0}, halves);
    words.of[i] = made.a, words.of[many + i] = made.b;
    words.of[2 * many + i] = made.c, words.of[3 * many + i] = made.d;
  }
}

// Value i of a bucket takes word i / 64 % 4 of counter i / 256 * 64 + i % 64.
template <class T>
HD void levels_of(const T* x, size_t n, T scale, int levels, const Random& words, unsigned char* made) {
  INDEPENDENT
  for (size_t i = 0; i < n; ++i)
    made[i] = static_cast<unsigned char>(signed_level(x[i], scale, levels, words.of[i]) + levels);
}

// Return the length of a vector as float32, in the order of sums of `dot`.
template <class T> HD float length_of(const T* x, size_t n) {
  double sum = 0;
  for (size_t at = 0; at < n; at += block) sum += block_dot(x + at, x + at, n - at < block ? n - at : block);
  return narrowed(root(sum));
}

template <class T>
bool dither_encode(const void* values, unsigned char* wire, const Dither& how, Part buckets) {
  const T* const x = static_cast<const T*>(values);
  auto* const lengths = reinterpret_cast<float*>(wire);
  unsigned char* const codes = wire + 4 * ((buckets.count + how.bucket - 1) / how.bucket);
  Random words;
  alignas(64) unsigned char made[at_once];
  const size_t each = (how.bucket + at_once - 1) / at_once;  // turns
  for (size_t b = buckets.begin; b < buckets.end; ++b) {
    const size_t at = b * how.bucket, n = smaller(how.bucket, buckets.count - at);
    if (largest_size(x + at, n) >= infinite_size<T>) return false;
    const float length = lengths[b] = length_of(x + at, n);
    const T scale = length > 0 ? T(how.levels) / T(length) : T(0);
    for (size_t turn = 0, i = 0; i < n; ++turn, i += at_once) {
      const size_t some = smaller(at_once, n - i);
      draw(words, how.key, (b * each + turn) * (at_once / 4));
      levels_of(x + at + i, some, limited(scale), how.levels, words, made);
      pack(made, some, how.bits, codes + (at + i) * static_cast<size_t>(how.bits) / 8);
    }
  }
  return true;
}

template <class T> HD void values_of(const unsigned char* levels, size_t n, T unit, int middle, T* out) {
  INDEPENDENT
  for (size_t i = 0; i < n; ++i) out[i] = limited(T(int(levels[i]) - middle) * unit);
}

template <class T>
void dither_decode(const unsigned char* wire, void* values, const Dither& how, Part buckets) {
  T* const out = static_cast<T*>(values);
  const auto* const lengths = reinterpret_cast<const float*>(wire);
  const unsigned char* const codes = wire + 4 * ((buckets.count + how.bucket - 1) / how.bucket);
  alignas(64) unsigned char levels[at_once];
  alignas(64) T made[at_once];
  for (size_t b = buckets.begin; b < buckets.end; ++b) {
    const size_t at = b * how.bucket, n = smaller(how.bucket, buckets.count - at);
    const T unit = T(lengths[b]) / T(how.levels);
    for (size_t i = 0; i < n; i += at_once) {
      const size_t some = smaller(at_once, n - i);
      unpack(codes + (at + i) * static_cast<size_t>(how.bits) / 8, some, how.bits, levels);
      values_of(levels, some, unit, how.levels, made);
      put_out(out + at + i, made, some, buckets.large);
    }
  }
  fence();
}

}  // namespace
}  // namespace loosestep::codecs
