// The size that so many of a few thousand values have or exceed. Compiled once for each instruction set.
#pragma once
#include "codecs/blocks.hpp"

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

}  // namespace
}  // namespace loosestep::codecs
