// The arithmetic of the collectives on one piece of the buffers. Every sum is, per element, a left fold in
// the arrays' own type, so the bits do not depend on chunks or threads.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <span>

namespace loosestep::shared {

enum class Op { sum, mean, max, min };

// Elements of an accumulator, which stays in the first-level cache while the ranks are added to it.
inline constexpr std::size_t tile = 2048;

template <class T> void copy(T* to, const T* from, std::size_t n) {
  if (n > 0 && to != from) std::memmove(to, from, n * sizeof(T));
}

template <class T> void add(T* acc, const T* a, const T* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = a[i] + b[i];
}

// Not std::max: a NaN on any rank must propagate, as in numpy.maximum.
template <class T> void greater(T* acc, const T* a, const T* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = (a[i] > b[i] || a[i] != a[i]) ? a[i] : b[i];
}

template <class T> void smaller(T* acc, const T* a, const T* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = (a[i] < b[i] || a[i] != a[i]) ? a[i] : b[i];
}

template <class T> void scale(T* acc, T by, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] *= by;
}

template <class T> void divide(T* acc, T by, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] /= by;
}

// Division is slower than memory; a power of two has an exact inverse, which gives the same bits.
template <class T> void divide_by_count(T* acc, std::size_t count, std::size_t n) {
  if (std::has_single_bit(count))
    scale(acc, T(1) / static_cast<T>(count), n);
  else
    divide(acc, static_cast<T>(count), n);
}

template <class T> void set_scaled(T* acc, const T* x, T weight, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = weight * x[i];
}

template <class T> void add_scaled(T* acc, const T* x, T weight, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] += weight * x[i];
}

// The ranks' buffers, in rank order or in the order of a mix.
using Buffers = std::span<void* const>;

template <class T> T* at(Buffers buffers, std::size_t k, std::size_t begin) {
  return static_cast<T*>(buffers[k]) + begin;
}

// acc = sum_k weights[k] * xs[k][begin .. begin + n), left fold in the given order; at least one term.
template <class T>
void weighted_sum(T* acc, Buffers xs, std::span<const double> weights, std::size_t begin, std::size_t n) {
  set_scaled(acc, at<T>(xs, 0, begin), static_cast<T>(weights[0]), n);
  for (std::size_t k = 1; k < xs.size(); ++k)
    add_scaled(acc, at<T>(xs, k, begin), static_cast<T>(weights[k]), n);
}

template <class T> void fold_tile(Op op, T* acc, Buffers xs, std::size_t begin, std::size_t n) {
  const T* so_far = at<T>(xs, 0, begin);
  if (xs.size() == 1) copy(acc, so_far, n);
  for (std::size_t k = 1; k < xs.size(); ++k, so_far = acc) {
    const T* x = at<T>(xs, k, begin);
    if (op == Op::max)
      greater(acc, so_far, x, n);
    else if (op == Op::min)
      smaller(acc, so_far, x, n);
    else
      add(acc, so_far, x, n);
  }
  if (op == Op::mean && xs.size() > 1) divide_by_count(acc, xs.size(), n);
}

// acc = (sum_k w_k x_k) / sum_k w_k over the ranks whose weight is not 0. The others are not read: they may
// hold NaN.
template <class T>
void weighted_mean_tile(T* acc, Buffers xs, std::span<const double> weights, T total, std::size_t begin,
                        std::size_t n) {
  bool first = true;
  for (std::size_t k = 0; k < xs.size(); ++k) {
    const T weight = static_cast<T>(weights[k]);
    if (weight == T(0)) continue;
    if (first)
      set_scaled(acc, at<T>(xs, k, begin), weight, n);
    else
      add_scaled(acc, at<T>(xs, k, begin), weight, n);
    first = false;
  }
  divide(acc, total, n);
}

// Call make(acc, begin, n) for each tile of [begin, end) and copy acc to every rank.
template <class T, class Make> void reduce_tiles(Buffers xs, std::size_t begin, std::size_t end, Make make) {
  alignas(64) T acc[tile];
  for (; begin < end; begin += tile) {
    const std::size_t n = std::min(tile, end - begin);
    make(acc, begin, n);
    for (std::size_t k = 0; k < xs.size(); ++k) copy(at<T>(xs, k, begin), acc, n);
  }
}

}  // namespace loosestep::shared
