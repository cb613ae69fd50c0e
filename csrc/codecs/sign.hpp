// One bit a value: 1 where it is negative. Compiled once for each instruction set.
#pragma once
#include <cstring>

#include "codecs/blocks.hpp"
#include "cpu/reduce.hpp"

namespace loosestep::codecs {
namespace {

template <class T> HD void add_sizes(double* sums, const T* x, size_t n) {
  for (size_t j = 0; j < n; ++j) sums[j] += double(from_bits(Word<T>(size_of(x[j]))));
}

// Return the signs of 32 values, the first in the lowest bit.
template <class T> HD std::uint32_t signs(const T* x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_movepi32_mask(_mm512_loadu_si512(x)) |
           static_cast<std::uint32_t>(_mm512_movepi32_mask(_mm512_loadu_si512(x + 16))) << 16;
#elif defined(__AVX__)
  if constexpr (sizeof(T) == 4) {
    std::uint32_t made = 0;
    for (int i = 0; i < 4; ++i)
      made |= static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_loadu_ps(x + 8 * i))) << (8 * i);
    return made;
  }
#endif
  std::uint32_t made = 0;
  for (unsigned j = 0; j < 32; ++j)
    made |= static_cast<std::uint32_t>(bits(x[j]) >> (8 * sizeof(T) - 1)) << j;
  return made;
}

template <class T> HD void few_signs(const T* x, size_t n, unsigned char* to) {
  T all[32] = {};
  for (size_t i = 0; i < n; ++i) all[i] = x[i];
  const std::uint32_t made = signs(all);
  std::memcpy(to, &made, (n + 7) / 8);
}

// Write the signs of n values, a multiple of 32, and add their sizes to 32 sums.
template <class T> HD void signs_and_sizes(const T* x, size_t n, unsigned char* to, double* sums) {
  for (size_t i = 0; i < n; i += 32) {
    add_sizes(sums, x + i, 32);
    const std::uint32_t made = signs(x + i);
    std::memcpy(to + i / 8, &made, 4);
  }
}

#if defined(__AVX512F__)
HD __m512d doubled(__m512d sum, __m256 some) { return _mm512_add_pd(sum, _mm512_maskz_cvtps_pd(0xff, some)); }

HD void signs_and_sizes(const float* x, size_t n, unsigned char* to, double* sums) {
  const __m512 sizes = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));
  __m512d sum[4] = {_mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd()};
  for (size_t i = 0; i < n; i += 32) {
    const __m512 low = _mm512_and_ps(_mm512_loadu_ps(x + i), sizes),
                 high = _mm512_and_ps(_mm512_loadu_ps(x + i + 16), sizes);
    sum[0] = doubled(sum[0], _mm512_maskz_extractf32x8_ps(0xff, low, 0));
    sum[1] = doubled(sum[1], _mm512_maskz_extractf32x8_ps(0xff, low, 1));
    sum[2] = doubled(sum[2], _mm512_maskz_extractf32x8_ps(0xff, high, 0));
    sum[3] = doubled(sum[3], _mm512_maskz_extractf32x8_ps(0xff, high, 1));
    const std::uint32_t made = signs(x + i);
    std::memcpy(to + i / 8, &made, 4);
  }
  for (size_t k = 0; k < 4; ++k) _mm512_storeu_pd(sums + 8 * k, sum[k]);
}
#endif

// Set `sums` to that of the sizes of each block of 4096 values.
template <class T> bool sign_encode(const void* values, unsigned char* to, double* sums, Part part) {
  const T* const x = static_cast<const T*>(values);
  for (size_t at = part.begin; at < part.end; at += block) {
    const size_t n = part.end - at < block ? part.end - at : block, whole = n / 32 * 32;
    alignas(64) double lane[lanes] = {};
    signs_and_sizes(x + at, whole, to + at / 8, lane);
    add_sizes(lane, x + at + whole, n - whole);
    const double sum = sums[at / block] = halve(lane);
    if (!(sum - sum == 0) && largest_size(x + at, n) >= infinite_size<T>) return false;
    if (n > whole) few_signs(x + at + whole, n - whole, to + (at + whole) / 8);
  }
  return true;
}

template <class T> HD void signed_values(std::uint32_t word, T scale, T* out) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const __m512 size = _mm512_set1_ps(scale), other = _mm512_set1_ps(-scale);
    _mm512_store_ps(out, _mm512_mask_blend_ps(static_cast<__mmask16>(word), size, other));
    _mm512_store_ps(out + 16, _mm512_mask_blend_ps(static_cast<__mmask16>(word >> 16), size, other));
    return;
  }
#endif
  constexpr unsigned top = 8 * sizeof(T) - 1;
  INDEPENDENT
  for (size_t j = 0; j < 32; ++j) out[j] = from_bits(bits(scale) | (Word<T>(word) >> j) << top);
}

template <class T> void sign_decode(const unsigned char* from, double scale, void* values, Part part) {
  T* const out = static_cast<T*>(values);
  const T size = T(scale);
  constexpr size_t some = 1024;
  alignas(64) T made[some];
  for (size_t at = part.begin; at < part.end; at += some) {
    const size_t n = part.end - at < some ? part.end - at : some;
    for (size_t i = 0; i < n; i += 32) {
      std::uint32_t word = 0;
      if (n - i >= 32)
        std::memcpy(&word, from + (at + i) / 8, 4);
      else
        std::memcpy(&word, from + (at + i) / 8, (n - i + 7) / 8);
      signed_values(word, size, made + i);
    }
    put_out(out + at, made, n, part.large);
  }
  fence();
}

}  // namespace
}  // namespace loosestep::codecs
