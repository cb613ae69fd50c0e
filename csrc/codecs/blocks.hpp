// Numbers of 4, 8 and 16 bits in blocks that share a power of two. A message: the exponent of each block, 16
// bits, then the codes. Compiled once for each instruction set.
#pragma once
#include <cstring>

#include "codecs/conversions.hpp"
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
