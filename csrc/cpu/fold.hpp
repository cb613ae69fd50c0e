// Left folds of several buffers, a block at a time, so that `out` may be one of them. Compiled once per
// instruction set.
#pragma once
#include "cpu/each.hpp"

namespace loosestep {
namespace {

template <class T> HD void first(T* sum, const T* x, const double* weight, std::size_t n) {
  const T w = weight ? T(*weight) : T(1);  // 1 * x is x
  for (std::size_t i = 0; i < n; ++i) sum[i] = w * x[i];
}

template <class T> HD void next(T* sum, const T* x, const double* weight, std::size_t n) {
  const T w = weight ? T(*weight) : T(1);
  for (std::size_t i = 0; i < n; ++i) sum[i] += w * x[i];
}

template <class T> HD void divide(T* sum, double divisor, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) sum[i] /= T(divisor);
}

template <class T> HD void store(T* out, const T* sum, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) out[i] = sum[i];
}

template <class T> HD void fold_one(const Fold& job, std::size_t at, std::size_t n) {
  alignas(64) T sum[result_block];
  for (std::size_t k = 0; k < job.count; ++k) {
    const T* x = static_cast<const T*>(job.buffers[k]) + at;
    const double* weight = job.weights ? job.weights + k : nullptr;
    k == 0 ? first(sum, x, weight, n) : next(sum, x, weight, n);
  }
  if (job.divisor != 0) divide(sum, job.divisor, n);
  T* const out = static_cast<T*>(job.out) + at;
  job.large ? stream_out(out, sum, n) : store(out, sum, n);
}

template <class T> void fold(const Fold& job, std::size_t begin, std::size_t end) {
  for (std::size_t at = begin; at < end; at += result_block)
    fold_one<T>(job, at, end - at < result_block ? end - at : result_block);
  if (job.large) fence();
}

}  // namespace
}  // namespace loosestep
