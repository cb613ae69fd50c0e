// Stores past the caches, for large results that are not read: without them the processor first loads every
// line that it overwrites (a third of the traffic of a copy). Compiled once per instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rules/rule.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace loosestep {
namespace {

inline constexpr std::size_t result_block =
    256;  // elements: few, so that all inputs are read side by side (2048 gave 0.4 of the speed)
inline constexpr std::size_t line_bytes = 64;

HD void stream_line([[maybe_unused]] void* out, [[maybe_unused]] const void* from) {
#if defined(__AVX512F__)
  _mm512_stream_si512(static_cast<__m512i*>(out), _mm512_loadu_si512(from));
#elif defined(__AVX__)
  for (int i = 0; i < 2; ++i)
    _mm256_stream_si256(static_cast<__m256i*>(out) + i,
                        _mm256_loadu_si256(static_cast<const __m256i*>(from) + i));
#elif defined(__SSE2__)
  for (int i = 0; i < 4; ++i)
    _mm_stream_si128(static_cast<__m128i*>(out) + i, _mm_loadu_si128(static_cast<const __m128i*>(from) + i));
#else
  __builtin_memcpy(out, from, line_bytes);
#endif
}

// Order streaming stores before those that follow.
HD void fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

HD bool starts_line(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % line_bytes == 0;
}

// Copy n elements to `out`: whole cache lines by streaming, the ends as usual.
template <class T> HD void stream_out(T* out, const T* from, std::size_t n) {
  constexpr std::size_t line = line_bytes / sizeof(T);
  std::size_t i = 0;
  for (; i < n && !starts_line(out + i); ++i) out[i] = from[i];
  for (; i + line <= n; i += line) stream_line(out + i, from + i);
  for (; i < n; ++i) out[i] = from[i];
}

}  // namespace
}  // namespace loosestep
