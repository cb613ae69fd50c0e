// Numbers of 4, 8 and 16 bits in blocks that share a power of two. A message: the exponent of each block, 16
// bits, then the codes. Compiled once for each instruction set.
#pragma once
#include <cstring>

#include "codecs/table.hpp"
#include "cpu/each.hpp"
#include "rules/blocks.hpp"

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

// Copy n values to their place.
template <class T> HD void put_out(T* out, const T* made, size_t n, bool large) {
  if (large)
    stream_out(out, made, n);
  else
    std::memcpy(out, made, n * sizeof(T));
}

// One code after the other.
template <class Rule, class Code_> struct Scaled : Rule {
  using Number = typename Rule::Number;
  using Code = Code_;

  template <class T> static HD void encode(const T* x, int e, Code* codes, size_t n) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4 && Rule::bits == 16)
      if (n % 16 == 0) return to_half(x, power_of_two<T>(Rule::top - e), codes, n);
    if constexpr (sizeof(T) == 4 && Rule::bits == 8)
      if (n % 64 == 0 && e > -90 && e < 100) return to_eight<Number>(x, e - Rule::top, codes, n);
#endif
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) codes[i] = static_cast<Code>(Rule::code(x[i], e));
  }
  template <class T> static HD void decode(const Code* codes, int e, T* out, size_t n) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
      if (n % 16 == 0 && e < 120) return from_half<Number>(codes, power_of_two<T>(e - Rule::top), out, n);
#endif
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) out[i] = Rule::template value<T>(codes[i], e);
  }
  static constexpr size_t codes(size_t n) { return n; }
};

// Two codes a byte, the lower one first.
struct Octaves : OctaveBlocks {
  using Code = unsigned char;

  template <class T> static HD void encode(const T* x, int top, Code* codes, size_t n) {
    unsigned char made[block] = {};
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) made[i] = static_cast<Code>(code(x[i], top));
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
    for (size_t i = 0; i < n; ++i) out[i] = value<T>(each[i], top);
  }
  static constexpr size_t codes(size_t n) { return (n + 1) / 2; }
};

using Half = Scaled<HalfBlocks, std::uint16_t>;
using E4m3 = Scaled<E4m3Blocks, unsigned char>;
using E5m2 = Scaled<E5m2Blocks, unsigned char>;

template <class F> std::int16_t* exponents(unsigned char* wire) {
  return reinterpret_cast<std::int16_t*>(wire);
}

template <class F> HD typename F::Code* codes_at(unsigned char* wire, size_t count, size_t at) {
  return reinterpret_cast<typename F::Code*>(wire + 2 * ((count + F::block - 1) / F::block)) + F::codes(at);
}

// Return the largest size of a block, which may be short or empty.
template <class F, class T> HD Integer<T> block_size(const T* x, size_t at, size_t end) {
  if (end >= at + F::block) return largest_size(x + at, F::block);
  return at < end ? largest_size(x + at, end - at) : 0;
}

// Codes on their way to a message that no cache holds: whole cache lines are streamed, and what fills none
// yet is kept for the next.
template <class Code, size_t most> struct Outgoing {
  static constexpr size_t line = line_bytes / sizeof(Code);
  Code* to;
  size_t count = 0;
  alignas(64) Code held[line + most];

  explicit Outgoing(Code* to) : to(to) {}

  HD Code* room() { return held + count; }
  HD void send(size_t added) {
    count += added;
    size_t sent = 0;
    for (; sent < count && !starts_line(to + sent); ++sent) to[sent] = held[sent];
    for (; sent + line <= count; sent += line) stream_line(to + sent, held + sent);
    to += sent, count -= sent;
    if (count) std::memmove(held, held + sent, count * sizeof(Code));
  }
  HD void finish() {
    if (count) std::memcpy(to, held, count * sizeof(Code));
    fence();
  }
};

template <class F, class T> bool encode_blocks(const void* values, unsigned char* wire, Part part) {
  const T* const x = static_cast<const T*>(values);
  Outgoing<typename F::Code, F::block> out(codes_at<F>(wire, part.count, part.begin));
  Integer<T> next = block_size<F>(x, part.begin, part.end);
  for (size_t at = part.begin; at < part.end; at += F::block) {
    const size_t n = part.end - at < F::block ? part.end - at : F::block;
    const Integer<T> most = next;
    next = block_size<F>(x, at + F::block, part.end);  // here, so that encoding need not wait for it
    if (most >= infinite_size<T>) return false;
    const auto e = static_cast<std::int16_t>(F::template exponent<T>(most));
    exponents<F>(wire)[at / F::block] = e;
    auto* const codes = part.large ? out.room() : codes_at<F>(wire, part.count, at);
    n == F::block ? F::encode(x + at, e, codes, F::block) : F::encode(x + at, e, codes, n);
    if (part.large) out.send(F::codes(n));
  }
  out.finish();
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
  Outgoing<std::uint16_t, result_block> out(codes + part.begin);
  for (size_t at = part.begin; at < part.end; at += result_block) {
    const size_t n = part.end - at < result_block ? part.end - at : result_block;
    if (largest_size(x + at, n) >= infinite_size<T>) return false;
    std::uint16_t* const to = part.large ? out.room() : codes + at;
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) to[i] = static_cast<std::uint16_t>(Bfloat16::code(narrowed(x[at + i])));
    if (part.large) out.send(n);
  }
  out.finish();
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
