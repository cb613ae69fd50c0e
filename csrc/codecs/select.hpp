// The largest values by size, of a whole vector or of each chunk; of equal ones the first. Compiled once for
// each instruction set.
#pragma once
#include "codecs/blocks.hpp"
#include "codecs/packed.hpp"

namespace loosestep::codecs {
namespace {

// Return which of 32 values have this size or more, the first in the lowest bit.
template <class T> HD std::uint32_t reaching(const T* x, Integer<T> least) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const __m512i sizes = _mm512_set1_epi32(0x7fffffff), limit = _mm512_set1_epi32(least);
    return _mm512_cmpge_epi32_mask(_mm512_and_si512(_mm512_loadu_si512(x), sizes), limit) |
           static_cast<std::uint32_t>(
               _mm512_cmpge_epi32_mask(_mm512_and_si512(_mm512_loadu_si512(x + 16), sizes), limit))
               << 16;
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
    const __m256i sizes = _mm256_set1_epi32(0x7fffffff), limit = _mm256_set1_epi32(least - 1);
    std::uint32_t made = 0;
    for (int i = 0; i < 4; ++i) {
      const __m256i size =
          _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x) + i), sizes);
      const int some = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(size, limit)));
      made |= static_cast<std::uint32_t>(some) << (8 * i);
    }
    return made;
  }
#endif
  std::uint32_t made = 0;
  for (unsigned j = 0; j < 32; ++j) made |= static_cast<std::uint32_t>(size_of(x[j]) >= least) << j;
  return made;
}

// Call found(index) for each of n values that has this size or more, in order.
template <class T, class Found> HD void each_reaching(const T* x, size_t n, Integer<T> least, Found&& found) {
  const size_t whole = n / 32 * 32;
  for (size_t i = 0; i < whole; i += 32)
    for (std::uint32_t left = reaching(x + i, least); left != 0; left &= left - 1)
      found(i + static_cast<size_t>(__builtin_ctz(left)));
  for (size_t i = whole; i < n; ++i)
    if (size_of(x[i]) >= least) found(i);
}

// Count the values that have this size or more, which is not 0.
template <class T> HD size_t count_from(const T* x, size_t n, Integer<T> least) {
  size_t count = 0, i = 0;
  for (; i + 32 <= n; i += 32) count += static_cast<size_t>(__builtin_popcount(reaching(x + i, least)));
  for (; i < n; ++i) count += size_of(x[i]) >= least;
  return count;
}

// A size that `keep` of n values have or exceed; or more of them, if all but `ties` of those with just this
// size are left out.
template <class T> struct Threshold {
  Integer<T> size;
  size_t ties;
};

// Searches for the threshold between `low`, which `many` values reach, enough, and `high`, which `few` do.
template <class T> struct Search {
  const T* x;
  size_t n, keep;
  Integer<T> low, high;
  size_t many, few = 0;

  HD bool exact() const { return many == keep; }

  HD void try_size(Integer<T> size) {
    const size_t count = count_from(x, n, size);
    if (count >= keep)
      low = size, many = count;
    else
      high = size, few = count;
  }

  // Walk away from a guess, in growing steps, until the threshold is between two of them. The first is as
  // long as it must be if values are as dense above the guess as below.
  HD void around(Integer<T> guess) {
    if (guess <= low || guess >= high) return;
    const Integer<T> below = guess - low;
    const size_t before = many;
    try_size(guess);
    if (low != guess) return;
    const size_t between = before > many ? before - many : 1;
    Integer<T> step = scaled(below, many - keep + 1, between);
    for (; !exact(); step *= 2) {
      if (step >= high - low) return;
      const Integer<T> next = low + step;
      try_size(next);
      if (low != next) return;
    }
  }

  // Return size * part / whole, at least 1.
  HD static Integer<T> scaled(Integer<T> size, size_t part, size_t whole) {
    const double made = double(size) * double(part) / double(whole);
    return made < 1 ? 1 : made < double(infinite_size<T>) ? static_cast<Integer<T>>(made) : infinite_size<T>;
  }

  // Where values are about equally dense, they tell where it is; else, and if that has not helped, take the
  // middle.
  HD Integer<T> next(int turn) const {
    const Integer<T> range = high - low;
    if (turn > 4 || range > Integer<T>(1) << Layout<T>::fraction) return low + range / 2;
    const Integer<T> step = scaled(range, many - keep, many - few);
    return low + (step < range ? step : range - 1);
  }

  HD Threshold<T> run(Integer<T> guess) {
    if (!exact()) around(guess);
    for (int turn = 0; !exact() && high - low > 1; ++turn) try_size(next(turn));
    return {low, exact() ? n : keep - count_from(x, n, low + 1)};
  }
};

// A guess changes nothing but the time that it takes.
template <class T>
HD Threshold<T> threshold(const T* x, size_t n, size_t keep, Integer<T> most, Integer<T> guess) {
  if (keep >= n) return {0, n};
  return Search<T>{x, n, keep, 0, most + 1, n}.run(guess);
}

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
