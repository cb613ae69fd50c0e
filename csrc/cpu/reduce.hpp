// Reductions with a fixed order of additions, for every instruction set and number of threads. Products are
// computed and added in double. In a block of 4096 elements, running sum j (of 32) takes the elements j, j +
// 32, j + 64, ... from left to right; then sum j takes sum j + 16, sum j + 8, ... sum j + 1. The sums of
// blocks are added in the same order, repeatedly until one is left. The GPU has the same order
// (kernels/reduce.cu). Compiled once per instruction set.
#pragma once
#include "cpu/each.hpp"

namespace loosestep {
namespace {

template <class T> HD void add_products(double* sums, const T* x, const T* y, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j) sums[j] += double(x[j]) * double(y[j]);
}

HD double halve(double* sums) {
  for (std::size_t width = lanes / 2; width > 0; width /= 2)
    for (std::size_t j = 0; j < width; ++j) sums[j] += sums[j + width];
  return sums[0];
}

template <class T> HD double block_dot(const T* x, const T* y, std::size_t n) {
  alignas(64) double sums[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) add_products(sums, x + i, y + i, lanes);
  add_products(sums, x + i, y + i, n - i);
  return halve(sums);
}

HD double block_sum(const double* x, std::size_t n) {
  alignas(64) double sums[lanes] = {};
  for (std::size_t i = 0; i < n; ++i) sums[i % lanes] += x[i];
  return halve(sums);
}

// Reduce the sums of n blocks to one.
double sum_of_sums(double* sums, std::size_t n) {
  if (n == 0) return 0;
  while (n > 1) {
    const std::size_t left = (n + block - 1) / block;
    for (std::size_t b = 0; b < left; ++b)
      sums[b] = block_sum(sums + b * block, n - b * block < block ? n - b * block : block);
    n = left;
  }
  return sums[0];
}

// Compute the sums of the blocks in [begin, end); begin is a multiple of the block size.
template <class T> void dot(const void* x, const void* y, double* sums, std::size_t begin, std::size_t end) {
  const T *a = static_cast<const T*>(x), *b = static_cast<const T*>(y);
  for (std::size_t at = begin; at < end; at += block)
    sums[at / block] = block_dot(a + at, b + at, end - at < block ? end - at : block);
}

template <class T> HD bool block_finite(const T* x, std::size_t n) {
  bool finite = true;
  for (std::size_t i = 0; i < n; ++i) finite &= x[i] - x[i] == T(0);  // NaN for an infinity and for a NaN
  return finite;
}

template <class T> bool finite(const void* x, std::size_t begin, std::size_t end) {
  const T* a = static_cast<const T*>(x);
  for (std::size_t at = begin; at < end; at += block)
    if (!block_finite(a + at, end - at < block ? end - at : block)) return false;
  return true;
}

}  // namespace
}  // namespace loosestep
