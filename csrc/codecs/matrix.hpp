// Products of a matrix that is given as a vector, row by row, with thin ones (PowerSGD), and cosine
// transforms of square tiles. Sums are double, in one order. Compiled once for each instruction set.
#pragma once
#include "codecs/blocks.hpp"
#include "cpu/reduce.hpp"

namespace loosestep::codecs {
namespace {

constexpr size_t sums_at_once = 8;

template <class T> HD double inner(const T* x, const double* q, size_t n, double unit) {
  alignas(64) double sums[sums_at_once] = {};
  size_t j = 0;
  for (; j + sums_at_once <= n; j += sums_at_once)
    for (size_t lane = 0; lane < sums_at_once; ++lane) sums[lane] += double(x[j + lane]) * unit * q[j + lane];
  for (size_t lane = 0; j < n; ++j, ++lane) sums[lane] += double(x[j]) * unit * q[j];
  for (size_t width = sums_at_once / 2; width > 0; width /= 2)
    for (size_t lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  return sums[0];
}

HD size_t length_of_row(const Matrix& m, size_t row) {
  const size_t left = m.count - row * m.columns;
  return left < m.columns ? left : m.columns;
}

// p[row][k] = the sum over columns of m[row][j] q[k][j], for rows [begin, end).
template <class T> void times(const Matrix& m, const double* q, double* p, size_t begin, size_t end) {
  for (size_t row = begin; row < end; ++row) {
    const T* const x = static_cast<const T*>(m.values) + row * m.columns;
    for (size_t k = 0; k < m.rank; ++k)
      p[row * m.rank + k] = inner(x, q + k * m.columns, length_of_row(m, row), m.unit);
  }
}

template <class T> HD void add_row(const T* x, double factor, double* q, size_t n) {
  INDEPENDENT
  for (size_t j = 0; j < n; ++j) q[j] += double(x[j]) * factor;
}

// q[k][j] = the sum over rows of m[row][j] p[row][k], from the first row to the last, for columns [begin,
// end).
template <class T>
void times_transposed(const Matrix& m, const double* p, double* q, size_t begin, size_t end) {
  const size_t rows = (m.count + m.columns - 1) / m.columns;
  for (size_t k = 0; k < m.rank; ++k)
    for (size_t j = begin; j < end; ++j) q[k * m.columns + j] = 0;
  for (size_t row = 0; row < rows; ++row) {
    const size_t there = length_of_row(m, row), stop = there < end ? there : end;
    if (stop <= begin) continue;
    const T* const x = static_cast<const T*>(m.values) + row * m.columns + begin;
    for (size_t k = 0; k < m.rank; ++k)
      add_row(x, m.unit * p[row * m.rank + k], q + k * m.columns + begin, stop - begin);
  }
}

// out[row][j] = the sum over k of p[row][k] q[k][j], for rows [begin, end).
template <class T>
void product(const double* p, const double* q, void* values, const Matrix& m, size_t begin, size_t end) {
  alignas(64) double sums[result_block];
  for (size_t row = begin; row < end; ++row) {
    T* const out = static_cast<T*>(values) + row * m.columns;
    const size_t there = length_of_row(m, row);
    for (size_t at = 0; at < there; at += result_block) {
      const size_t n = there - at < result_block ? there - at : result_block;
      for (size_t j = 0; j < n; ++j) sums[j] = 0;
      for (size_t k = 0; k < m.rank; ++k) add_row(q + k * m.columns + at, p[row * m.rank + k], sums, n);
      INDEPENDENT
      for (size_t j = 0; j < n; ++j) out[at + j] = limited_to<T>(sums[j]);
    }
  }
}

constexpr size_t longest_side = 64;

// out = a b, of square matrices; each sum from left to right.
template <class T> HD void multiply(const T* a, const T* b, T* out, size_t side) {
  for (size_t i = 0; i < side; ++i) {
    alignas(64) T sums[longest_side] = {};
    for (size_t l = 0; l < side; ++l) {
      const T factor = a[i * side + l];
      INDEPENDENT
      for (size_t j = 0; j < side; ++j) sums[j] += factor * b[l * side + j];
    }
    for (size_t j = 0; j < side; ++j) out[i * side + j] = sums[j];
  }
}

// Each tile x becomes left x right.
template <class T>
void transform(const void* values, void* to, const void* left, const void* right, size_t side, size_t begin,
               size_t end) {
  alignas(64) T made[longest_side * longest_side];
  for (size_t tile = begin; tile < end; ++tile) {
    multiply(static_cast<const T*>(left), static_cast<const T*>(values) + tile * side * side, made, side);
    multiply(made, static_cast<const T*>(right), static_cast<T*>(to) + tile * side * side, side);
  }
}

}  // namespace
}  // namespace loosestep::codecs
