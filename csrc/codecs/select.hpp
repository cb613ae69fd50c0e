// The largest values by size, of a whole vector or of each chunk; of equal ones the first. Compiled once for
// each instruction set.
#pragma once
#include "codecs/blocks.hpp"
#include "codecs/packed.hpp"
#include "codecs/threshold.hpp"

namespace loosestep::codecs {
namespace {

template <class T>
HD T* take(const T* x, size_t n, Threshold<T> least, int bits, T* kept, BitWriter& indices) {
  each_reaching(x, n, least.size, [&](size_t i) {
    if (size_of(x[i]) == least.size) {
      if (least.ties == 0) return;
      --least.ties;
    }
    indices.put(i, bits);
    *kept++ = x[i];
  });
  return kept;
}

// Write where the values are that have this size or more, counted from `first`; return how many. There must
// be room for 16 more.
template <class T>
HD size_t places_of(const T* x, size_t n, Integer<T> least, size_t first, std::uint32_t* places) {
  size_t count = 0, i = 0;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const __m512i sizes = _mm512_set1_epi32(0x7fffffff), limit = _mm512_set1_epi32(least),
                  next = _mm512_set1_epi32(16);
    __m512i place = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                     _mm512_set1_epi32(static_cast<int>(first)));
    for (; i + 16 <= n; i += 16, place = _mm512_add_epi32(place, next)) {
      const __mmask16 found =
          _mm512_cmpge_epi32_mask(_mm512_and_si512(_mm512_loadu_si512(x + i), sizes), limit);
      _mm512_storeu_si512(places + count, _mm512_maskz_compress_epi32(found, place));
      count += static_cast<size_t>(__builtin_popcount(found));
    }
  }
#endif
  each_reaching(x + i, n - i, least,
                [&](size_t k) { places[count++] = static_cast<std::uint32_t>(first + i + k); });
  return count;
}

// Write those of n values that have this size or more, and their places; return how many. There must be room
// for 16 more.
template <class T>
HD size_t compress(const T* x, const std::uint32_t* at, size_t n, Integer<T> least, T* values,
                   std::uint32_t* places) {
  size_t count = 0, i = 0;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const __m512i sizes = _mm512_set1_epi32(0x7fffffff), limit = _mm512_set1_epi32(least);
    for (; i + 16 <= n; i += 16) {
      const __m512i some = _mm512_loadu_si512(x + i);
      const __mmask16 found = _mm512_cmpge_epi32_mask(_mm512_and_si512(some, sizes), limit);
      _mm512_storeu_si512(values + count, _mm512_maskz_compress_epi32(found, some));
      _mm512_storeu_si512(places + count, _mm512_maskz_compress_epi32(found, _mm512_loadu_si512(at + i)));
      count += static_cast<size_t>(__builtin_popcount(found));
    }
  }
#endif
  each_reaching(x + i, n - i, least, [&](size_t k) {
    values[count] = x[i + k];
    places[count++] = at[i + k];
  });
  return count;
}

// The values of a chunk that reach a size, and where they are; then zeros, up to a multiple of 32.
template <class T> struct Candidates {
  static constexpr size_t most = 512, step = 256;
  T values[most + step + 32];
  std::uint32_t places[most + step + 16];
  size_t count, whole;

  // Return whether there are enough of them, and not too many.
  HD bool find(const T* x, size_t n, Integer<T> least, size_t keep) {
    count = 0;
    for (size_t i = 0; i < n; i += step) {
      const size_t some = n - i < step ? n - i : step;
      count += places_of(x + i, some, least, i, places + count);
      if (count > most) return false;
    }
    for (size_t k = 0; k < count; ++k) values[k] = x[places[k]];
    whole = (count + 31) / 32 * 32;
    for (size_t k = count; k < whole; ++k) values[k] = 0;
    return count >= keep;
  }

  HD Threshold<T> threshold(Integer<T> least, Integer<T> largest, size_t keep, Integer<T> guess) const {
    return Search<T>{values, whole, keep, least, largest + 1, count}.run(guess);
  }

  HD T* take(Threshold<T> least, int bits, T* kept, BitWriter& indices) const {
    T taken[most + 16];
    std::uint32_t where[most + 16];
    size_t n = 0;
    if (least.ties >= count)
      n = compress(values, places, count, least.size, taken, where);
    else
      for (size_t i = 0; i < count; ++i) {
        const Integer<T> size = size_of(values[i]);
        const bool tie = size == least.size, wanted = size > least.size || (tie && least.ties > 0);
        least.ties -= tie && least.ties > 0;
        taken[n] = values[i], where[n] = places[i];
        n += wanted;
      }
    indices.put_all(where, n, bits);
    __builtin_memcpy(kept, taken, n * sizeof(T));
    return kept + n;
  }
};

// Keep of a chunk of n values as large a share as of a whole one, rounded up.
HD size_t kept_of(const Selection& of, size_t n) { return (of.keep * n + of.chunk - 1) / of.chunk; }

// Selects of one chunk after another. What a chunk's threshold was says where that of the next may be, which
// changes nothing but the time that it takes.
template <class T> struct Selector {
  const Selection& of;
  T* kept;
  BitWriter indices;
  Integer<T> usual = 0;
  Candidates<T> some;

  HD bool chunk(const T* x, size_t n) {
    const size_t keep = kept_of(of, n);
    constexpr Integer<T> margin = Integer<T>(1) << (Layout<T>::fraction - 3);
    if (usual > margin && some.find(x, n, usual - margin, keep)) {
      const Integer<T> most = largest_size(some.values, some.whole);
      if (most >= infinite_size<T>) return false;
      const Threshold<T> least = some.threshold(usual - margin, most, keep, usual);
      kept = some.take(least, of.bits, kept, indices);
      usual += (least.size - usual) / 4;
      return true;
    }
    const Integer<T> most = largest_size(x, n);
    if (most >= infinite_size<T>) return false;
    const Threshold<T> least = threshold(x, n, keep, most, usual);
    kept = take(x, n, least, of.bits, kept, indices);
    usual = least.size;
    return true;
  }
};

// `chunks` counts chunks; it begins with a multiple of 8, so that its indices begin with a byte.
template <class T>
bool select(const void* values, const Selection& of, void* to, unsigned char* bytes, Part chunks) {
  const T* const x = static_cast<const T*>(values);
  const size_t before = chunks.begin * of.keep;
  Selector<T> selector{
      of, static_cast<T*>(to) + before, BitWriter(bytes + before * static_cast<size_t>(of.bits) / 8), 0, {}};
  for (size_t c = chunks.begin; c < chunks.end; ++c) {
    const size_t at = c * of.chunk;
    if (!selector.chunk(x + at, of.count - at < of.chunk ? of.count - at : of.chunk)) return false;
  }
  selector.indices.finish();
  return true;
}

// Write the indices of those of n values, 4096 at most, that reach a size, given as an integer; return how
// many.
template <class T> size_t collect(const void* values, size_t n, std::uint64_t least, std::uint32_t* to) {
  size_t count = 0;
  each_reaching(static_cast<const T*>(values), n, static_cast<Integer<T>>(least),
                [&](size_t i) { to[count++] = static_cast<std::uint32_t>(i); });
  return count;
}

}  // namespace
}  // namespace loosestep::codecs
