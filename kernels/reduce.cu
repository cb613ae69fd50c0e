// Inner products and norms, in the order of csrc/cpu/reduce.hpp: the same bits as on the CPU.
//
// A warp sums a block of 4096 products: lane j takes elements j, j + 32, ... from left to right, then takes
// the sums of lanes j + 16, j + 8, ... j + 1. `fold_sums` adds the sums of blocks likewise until one is left.
//
// instances: dot<float>, dot<double>, dot<float16>, dot<bfloat16>
// instances: squares<float>, squares<double>, squares<float16>, squares<bfloat16>
// instances: not_finite<float>, not_finite<double>, not_finite<float16>, not_finite<bfloat16>, fold_sums
#include "kernels/number.cuh"
#include "kernels/sums.cuh"

namespace loosestep {

constexpr unsigned warps = 8, summing = lanes * warps;  // threads that sum blocks
constexpr unsigned folding = 1024;                      // threads that add the sums of one part

__device__ inline size_t warp() { return size_t(blockIdx.x) * warps + threadIdx.x / lanes; }

template <class T> __device__ double block_dot(const T* x, const T* y, size_t left) {
  return block_sum(left < block ? left : block,
                   [=](size_t i) { return double(widened(x[i])) * double(widened(y[i])); });
}

// Set sums[b] to the inner product of block b.
template <class T>
__global__ void __launch_bounds__(summing) dot(const T* x, const T* y, size_t n, double* sums) {
  const size_t at = warp() * block;
  if (at >= n) return;
  const double sum = block_dot(x + at, y + at, n - at);
  if (lane() == 0) sums[warp()] = sum;
}

// Set `found` to 1 where an element is infinite or NaN.
template <class T> __global__ void __launch_bounds__(256) not_finite(const T* x, size_t n, unsigned* found) {
  const size_t stride = size_t(gridDim.x) * blockDim.x;
  for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) {
    const auto value = widened(x[i]);
    if (!(value - value == 0)) *found = 1;
  }
}

// Return the last part whose first block is at or before block b.
__device__ inline size_t part_of(const size_t* first, size_t parts, size_t b) {
  size_t low = 0, high = parts;
  while (high - low > 1) {
    const size_t middle = (low + high) / 2;
    (first[middle] <= b ? low : high) = middle;
  }
  return low;
}

// Sum the squares of part p, x[starts[p]] to x[starts[p + 1] - 1], which has the blocks first[p] to first[p +
// 1] - 1.
template <class T>
__global__ void __launch_bounds__(summing)
    squares(const T* x, const size_t* starts, const size_t* first, size_t parts, double* sums) {
  const size_t b = warp();
  if (b >= first[parts]) return;
  const size_t p = part_of(first, parts, b), at = starts[p] + (b - first[p]) * block;
  const double sum = block_dot(x + at, x + at, starts[p + 1] - at);
  if (lane() == 0) sums[b] = sum;
}

// Each warp adds the sums of one block of sums. No sum is overwritten before it is read: sum b replaces the
// first of the sums that it adds, or an earlier one.
__device__ inline void fold_some(double* sums, size_t n, size_t b) {
  const size_t at = b * block;
  double sum = 0;
  if (at < n) sum = block_sum(n - at < block ? n - at : block, [=](size_t i) { return sums[at + i]; });
  __syncthreads();
  if (at < n && lane() == 0) sums[b] = sum;
}

// One thread block per part: compute out[p] from the sums of its blocks, which are overwritten. Without
// `first` there is one part, of `blocks` blocks.
__global__ void __launch_bounds__(folding)
    fold_sums(double* sums, const size_t* first, size_t blocks, double* out) {
  const size_t begin = first ? first[blockIdx.x] : 0;
  size_t n = first ? first[blockIdx.x + 1] - begin : blocks;
  double* const mine = sums + begin;
  const size_t nothing = n == 0;
  while (n > 1) {
    const size_t left = (n + block - 1) / block;
    for (size_t b = 0; b < left; b += folding / lanes) fold_some(mine, n, b + threadIdx.x / lanes);
    __syncthreads();
    n = left;
  }
  if (threadIdx.x == 0) out[blockIdx.x] = nothing ? 0 : mine[0];
}

}  // namespace loosestep
