// Hand-written loops that measure what memory can do, as a limit for the ops: an update of two arrays in
// place (they are swapped, so that no value overflows) and a copy, each with ordinary and with streaming
// stores. Compiled once per instruction set. Addresses are 64-byte aligned, lengths multiples of 16.
#include "cpu/streams.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace loosestep {
namespace {

constexpr std::size_t line = 16;  // floats in 64 bytes

#if defined(__AVX512F__)
using Vector = __m512;
inline __attribute__((always_inline)) Vector get(const float* x) { return _mm512_load_ps(x); }
template <bool nt> inline __attribute__((always_inline)) void put(float* x, Vector v) {
  nt ? _mm512_stream_ps(x, v) : _mm512_store_ps(x, v);
}
#elif defined(__AVX__)
using Vector = __m256;
inline __attribute__((always_inline)) Vector get(const float* x) { return _mm256_load_ps(x); }
template <bool nt> inline __attribute__((always_inline)) void put(float* x, Vector v) {
  nt ? _mm256_stream_ps(x, v) : _mm256_store_ps(x, v);
}
#elif defined(__SSE2__)
using Vector = __m128;
inline __attribute__((always_inline)) Vector get(const float* x) { return _mm_load_ps(x); }
template <bool nt> inline __attribute__((always_inline)) void put(float* x, Vector v) {
  nt ? _mm_stream_ps(x, v) : _mm_store_ps(x, v);
}
#else
using Vector = float;
inline __attribute__((always_inline)) Vector get(const float* x) { return *x; }
template <bool nt> inline __attribute__((always_inline)) void put(float* x, Vector v) { *x = v; }
#endif

constexpr std::size_t width = sizeof(Vector) / sizeof(float);

inline __attribute__((always_inline)) void fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <bool nt> void update(float* x, float* y, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; i += line)
    for (std::size_t j = i; j < i + line; j += width) {
      const Vector a = get(x + j), b = get(y + j);
      put<nt>(x + j, b);
      put<nt>(y + j, a);
    }
  fence();
}

template <bool nt> void copy(float* x, float* out, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; i += line)
    for (std::size_t j = i; j < i + line; j += width) put<nt>(out + j, get(x + j));
  fence();
}

}  // namespace

namespace LOOSESTEP_ISA {
extern const Streams streams;
constexpr Streams streams = {{update<false>, update<true>}, {copy<false>, copy<true>}};
}  // namespace LOOSESTEP_ISA

}  // namespace loosestep
