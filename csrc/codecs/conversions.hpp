// Numbers of 8 and 16 bits by the vectors of AVX-512, as the rules make them. Compiled once for each
// instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/stream_out.hpp"
#include "rules/blocks.hpp"

namespace loosestep::codecs {
namespace {

using std::size_t;

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

// As `Minifloat::code` of x times 2^(top - e), without that product: `least` is the least normal number of
// the format times 2^(e - top). The last bits of a sum are those of the code, above them are sign and
// exponent.
template <class F> HD __m512i eight_bits(__m512 x, __m512 least) {
  // the larger size, with the sign of x
  const __m512 larger = _mm512_maskz_range_ps(all_lanes, x, least, 3),
               power = _mm512_and_ps(larger,
                                     _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(0xff800000))));
  const __m512 sum = _mm512_fmadd_ps(power, _mm512_set1_ps(power_of_two<float>(F::shift)), x);
  return _mm512_add_epi32(_mm512_and_si512(_mm512_castps_si512(sum), _mm512_set1_epi32(0xffff)),
                          _mm512_maskz_srli_epi32(all_lanes, _mm512_castps_si512(power), F::shift));
}

// n is a multiple of 64; |x| is below 2^100, and what is least is a normal number.
template <class F> HD void to_eight(const float* x, int down, unsigned char* codes, size_t n) {
  const float small = power_of_two<float>(1 - F::bias + down);
  const __m512 least = _mm512_set1_ps(small);
  const __m512i before = _mm512_set1_epi16(static_cast<short>(bits(small) >> F::shift)),
                size = _mm512_set1_epi16(0x7f),
                order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (size_t i = 0; i < n; i += 64) {
    __m512i code[2];
    for (size_t k = 0; k < 2; ++k) {
      const float* const from = x + i + 32 * k;
      const __m512i both = _mm512_packus_epi32(eight_bits<F>(_mm512_loadu_ps(from), least),
                                               eight_bits<F>(_mm512_loadu_ps(from + 16), least)),
                    made = _mm512_sub_epi16(both, before);
      code[k] = _mm512_ternarylogic_epi64(size, made, _mm512_srli_epi16(made, 24 - F::shift), 0xca);
    }
    // Packing takes each quarter of a register by itself; `order` puts them one after the other.
    _mm512_storeu_si512(
        codes + i, _mm512_maskz_permutexvar_epi32(all_lanes, order, _mm512_packus_epi16(code[0], code[1])));
  }
}

// The codes of 8 bits have the value of a binary16 with the same bits, times a power of two, which is finite.
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

}  // namespace
}  // namespace loosestep::codecs
