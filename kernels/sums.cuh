// The order of sums, as in csrc/cpu/reduce.hpp: a warp sums a block of 4096 terms, lane j those at j, j + 32,
// ... from left to right; then lanes are added in halves.
#pragma once

namespace loosestep {

constexpr size_t block = 4096;
constexpr unsigned lanes = 32;

__device__ inline unsigned lane() { return threadIdx.x % lanes; }

// Return the sum over the lanes of a warp, in lane 0.
__device__ inline double sum_of_lanes(double sum) {
#pragma unroll
  for (unsigned width = lanes / 2; width > 0; width /= 2) sum += __shfl_down_sync(~0u, sum, width);
  return sum;
}

// Return the sum of term(0) to term(n - 1), n <= 4096, in lane 0.
template <class Term> __device__ double block_sum(size_t n, const Term& term) {
  double sum = 0;
#pragma unroll 8
  for (size_t i = lane(); i < n; i += lanes) sum += term(i);
  return sum_of_lanes(sum);
}

}  // namespace loosestep
