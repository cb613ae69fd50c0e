// Numbers of 4, 8 and 16 bits in blocks that share a power of two. A message: the exponent of each block, 16
// bits, then the codes. Compiled once for each instruction set.
#pragma once
#include <cstring>

#include "codecs/table.hpp"
#include "cpu/each.hpp"
#include "rules/minifloat.hpp"
#include "rules/octave.hpp"

namespace loosestep::codecs {
namespace {

// Return the largest size of n values; at least `infinite_size` where one is not finite.
template <class T> HD Integer<T> largest_size(const T* x, size_t n) {
  Integer<T> most = 0;
  for (size_t i = 0; i < n; ++i) most = size_of(x[i]) > most ? size_of(x[i]) : most;
  return most;
}

#if defined(__AVX512F__)
constexpr __mmask16 all_lanes =
    0xffff;  // GCC 12 takes what unmasked intrinsics leave undefined for a mistake

// By the processor's conversions of binary16, which round as `Minifloat` does; n is a multiple of 16.
HD void to_half(const float* x, float factor, std::uint16_t* codes, size_t n) {
  for (size_t i = 0; i < n; i += 16) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(factor));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i),
                        _mm512_maskz_cvtps_ph(all_lanes, scaled, _MM_FROUND_TO_NEAREST_INT));
  }
}

// The codes of 8 bits have the value of a binary16 with the same bits, times a power of two.
template <class F, class Code> HD void from_half(const Code* codes, float factor, float* out, size_t n) {
  const __m512 scale = _mm512_set1_ps(factor * power_of_two<float>(15 - F::bias)),
               most = _mm512_set1_ps(Layout<float>::most), least = _mm512_set1_ps(-Layout<float>::most);
  for (size_t i = 0; i < n; i += 16) {
    __m256i half;
    if constexpr (sizeof(Code) == 2) {
      half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i));
    } else {
      const __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i)));
      const __m256i rest = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x7f)), 10 - F::behind);
      half = _mm256_or_si256(rest, _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8));
    }
    const __m512 value = _mm512_mul_ps(_mm512_maskz_cvtph_ps(all_lanes, half), scale);
    const __m512 below = _mm512_maskz_min_ps(all_lanes, value, most);
    _mm512_storeu_ps(out + i, _mm512_maskz_max_ps(all_lanes, below, least));
  }
}
#endif

// Copy n values to their place.
template <class T> HD void put_out(T* out, const T* made, size_t n, bool large) {
  if (large)
    stream_out(out, made, n);
  else
    std::memcpy(out, made, n * sizeof(T));
}

// A format whose largest code is above 2^top.
template <class F, int top_, size_t block_, class Code_> struct Scaled {
  static constexpr size_t block = block_;
  using Code = Code_;

  template <class T> static HD std::int16_t exponent(Integer<T> most) {
    const int e = exponent_above<T>(most);
    return static_cast<std::int16_t>(e < Layout<T>::least ? Layout<T>::least : e);
  }
  template <class T> static HD void encode(const T* x, int e, Code* codes, size_t n) {
    const T factor = power_of_two<T>(top_ - e);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4 && F::bits == 16)
      if (n % 16 == 0) return to_half(x, factor, codes, n);
#endif
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) codes[i] = static_cast<Code>(F::code(narrowed(x[i] * factor)));
  }
  template <class T> static HD void decode(const Code* codes, int e, T* out, size_t n) {
    const T factor = power_of_two<T>(e - top_);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
      if (n % 16 == 0) return from_half<F>(codes, factor, out, n);
#endif
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) out[i] = limited(T(F::value(codes[i])) * factor);
  }
  static constexpr size_t codes(size_t n) { return n; }
};

// Two codes a byte, the lower one first.
struct Octaves {
  static constexpr size_t block = 64;
  using Code = unsigned char;

  template <class T> static HD std::int16_t exponent(Integer<T> most) {
    const int top = Octave<T>::nearest(most);
    return static_cast<std::int16_t>(top < Layout<T>::least  ? Layout<T>::least
                                     : top > Layout<T>::bias ? Layout<T>::bias
                                                             : top);
  }
  template <class T> static HD void encode(const T* x, int top, Code* codes, size_t n) {
    unsigned char made[block] = {};
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) made[i] = static_cast<Code>(Octave<T>::code(x[i], top));
    INDEPENDENT
    for (size_t i = 0; i < (n + 1) / 2; ++i) codes[i] = static_cast<Code>(made[2 * i] | made[2 * i + 1] << 4);
  }
  template <class T> static HD void decode(const Code* codes, int top, T* out, size_t n) {
    unsigned char each[block];
    INDEPENDENT
    for (size_t i = 0; i < (n + 1) / 2; ++i) {
      each[2 * i] = codes[i] & 15;
      each[2 * i + 1] = static_cast<Code>(codes[i] >> 4);
    }
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) out[i] = Octave<T>::value(each[i], top);
  }
  static constexpr size_t codes(size_t n) { return (n + 1) / 2; }
};

using Half = Scaled<Minifloat<5, 10>, 15, 256, std::uint16_t>;
using E4m3 = Scaled<Minifloat<4, 3>, 8, 256, unsigned char>;
using E5m2 = Scaled<Minifloat<5, 2>, 15, 256, unsigned char>;

template <class F> std::int16_t* exponents(unsigned char* wire) {
  return reinterpret_cast<std::int16_t*>(wire);
}

template <class F> HD typename F::Code* codes_at(unsigned char* wire, size_t count, size_t at) {
  return reinterpret_cast<typename F::Code*>(wire + 2 * ((count + F::block - 1) / F::block)) + F::codes(at);
}

template <class F, class T> bool encode_blocks(const void* values, unsigned char* wire, Part part) {
  const T* const x = static_cast<const T*>(values);
  for (size_t at = part.begin; at < part.end; at += F::block) {
    const size_t n = part.end - at < F::block ? part.end - at : F::block;
    const Integer<T> most = n == F::block ? largest_size(x + at, F::block) : largest_size(x + at, n);
    if (most >= infinite_size<T>) return false;
    const std::int16_t e = F::template exponent<T>(most);
    exponents<F>(wire)[at / F::block] = e;
    auto* const codes = codes_at<F>(wire, part.count, at);
    n == F::block ? F::encode(x + at, e, codes, F::block) : F::encode(x + at, e, codes, n);
  }
  return true;
}

template <class F, class T> void decode_blocks(const unsigned char* from, void* values, Part part) {
  T* const out = static_cast<T*>(values);
  auto* const wire = const_cast<unsigned char*>(from);
  alignas(64) T made[F::block];
  for (size_t at = part.begin; at < part.end; at += F::block) {
    const size_t n = part.end - at < F::block ? part.end - at : F::block;
    const int e = exponents<F>(wire)[at / F::block];
    const auto* const codes = codes_at<F>(wire, part.count, at);
    if (part.large && n == F::block) {
      F::decode(codes, e, made, F::block);
      stream_out(out + at, made, F::block);
    } else {
      F::decode(codes, e, out + at, n);
    }
  }
  fence();
}

template <class T> bool encode_bfloat16(const void* values, unsigned char* wire, Part part) {
  const T* const x = static_cast<const T*>(values);
  auto* const codes = reinterpret_cast<std::uint16_t*>(wire);
  for (size_t at = part.begin; at < part.end; at += result_block) {
    const size_t n = part.end - at < result_block ? part.end - at : result_block;
    if (largest_size(x + at, n) >= infinite_size<T>) return false;
    INDEPENDENT
    for (size_t i = at; i < at + n; ++i)
      codes[i] = static_cast<std::uint16_t>(Bfloat16::code(narrowed(x[i])));
  }
  return true;
}

template <class T> void decode_bfloat16(const unsigned char* wire, void* values, Part part) {
  T* const out = static_cast<T*>(values);
  const auto* const codes = reinterpret_cast<const std::uint16_t*>(wire);
  alignas(64) T made[result_block];
  for (size_t at = part.begin; at < part.end; at += result_block) {
    const size_t n = part.end - at < result_block ? part.end - at : result_block;
    T* const to = part.large ? made : out + at;
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) to[i] = T(Bfloat16::value(codes[at + i]));
    if (part.large) stream_out(out + at, made, n);
  }
  fence();
}

}  // namespace
}  // namespace loosestep::codecs
