// Bins of equal width around the mean, decoded as the mean of what is in each. A message: those means,
// float32, then the number of a bin for each value. Compiled once for each instruction set.
#pragma once
#include "codecs/packed.hpp"
#include "codecs/sign.hpp"

namespace loosestep::codecs {
namespace {

template <class T> HD void add_moments(double* sums, double* squares, const T* x, size_t n, double unit) {
  for (size_t j = 0; j < n; ++j) {
    const double value = double(x[j]) * unit;
    sums[j] += value, squares[j] += value * value;
  }
}

// Sum values times `unit`, and their squares, by blocks of 4096.
template <class T> void moments(const void* values, double unit, double* sums, double* squares, Part part) {
  const T* const x = static_cast<const T*>(values);
  for (size_t at = part.begin; at < part.end; at += block) {
    const size_t n = part.end - at < block ? part.end - at : block;
    alignas(64) double sum[lanes] = {}, square[lanes] = {};
    for (size_t i = 0; i < n; i += lanes)
      add_moments(sum, square, x + at + i, n - i < lanes ? n - i : lanes, unit);
    sums[at / block] = halve(sum), squares[at / block] = halve(square);
  }
}

// Return the nearest whole number, of two the even one, from 0 to `last`.
HD int bin_of(double place, double last) {
  const double inside = place < 0 ? 0 : place > last ? last : place;
  return int((inside + 0x1.8p52) - 0x1.8p52);
}

// `sums` and `counts` are of each block of 4096 values, with one number for each bin.
template <class T>
void bins_encode(const void* values, const BinRule& rule, unsigned char* codes, double* sums,
                 std::uint64_t* counts, Part part) {
  const T* const x = static_cast<const T*>(values);
  const auto bins = size_t(1) << rule.bits;
  const double middle = double(bins) / 2, last = double(bins) - 1;
  unsigned char made[block];
  for (size_t at = part.begin; at < part.end; at += block) {
    const size_t n = part.end - at < block ? part.end - at : block;
    double* const sum = sums + at / block * bins;
    std::uint64_t* const count = counts + at / block * bins;
    INDEPENDENT
    for (size_t i = 0; i < n; ++i) {
      const double place = (double(x[at + i]) * rule.unit - rule.shift) * rule.inverse + middle;
      made[i] = static_cast<unsigned char>(bin_of(place, last));
    }
    for (size_t i = 0; i < n; ++i)
      sum[made[i]] += double(x[at + i]) * rule.unit - rule.shift, ++count[made[i]];
    pack(made, n, rule.bits, codes + at * static_cast<size_t>(rule.bits) / 8);
  }
}

template <class T>
void bins_decode(const unsigned char* codes, const float* table, int bits, void* values, Part part) {
  T* const out = static_cast<T*>(values);
  unsigned char each[block];
  for (size_t at = part.begin; at < part.end; at += block) {
    const size_t n = part.end - at < block ? part.end - at : block;
    unpack(codes + at * static_cast<size_t>(bits) / 8, n, bits, each);
    for (size_t i = 0; i < n; ++i) out[at + i] = T(table[each[i]]);
  }
}

}  // namespace
}  // namespace loosestep::codecs
