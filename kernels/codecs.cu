// Compression of float32: a bit per element and the mean absolute value, or eight bits per element and a
// scale for every 256. The buffer also holds what earlier messages left out, and keeps what this one leaves
// out (error feedback: Seide et al. 2014; Karimireddy et al. 2019).
//
// instances: take_signs<float>, take_signs<double>, from_signs<float>, from_signs<double>
// instances: take_bytes<float>, take_bytes<double>, from_bytes<float>, from_bytes<double>
#include "rules/rule.hpp"

namespace loosestep {

constexpr unsigned lanes = 32, group = 256;

__device__ inline size_t this_warp() { return (size_t(blockIdx.x) * blockDim.x + threadIdx.x) / lanes; }
__device__ inline size_t all_warps() { return size_t(gridDim.x) * blockDim.x / lanes; }

// Set bit i % 32 of word i / 32 where x_i < 0, and subtract scale sign(x) from x. `size_sum` is the sum of
// x
// from reduce.cu; the scale is its n-th part.
template <class T>
__global__ void __launch_bounds__(256) take_signs(T* x, size_t n, const double* size_sum, unsigned* words) {
  const T scale = T(*size_sum / double(n));
  const unsigned lane = threadIdx.x % lanes;
  for (size_t word = this_warp(); word * lanes < n; word += all_warps()) {
    const size_t i = word * lanes + lane;
    const bool below = i < n && x[i] < 0;
    const unsigned all = __ballot_sync(~0u, below);
    if (lane == 0) words[word] = all;
    if (i < n) x[i] -= below ? -scale : scale;
  }
}

template <class T>
__global__ void __launch_bounds__(256) from_signs(const unsigned* words, size_t n, T scale, T* out) {
  const size_t stride = size_t(gridDim.x) * blockDim.x;
  for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride)
    out[i] = words[i / lanes] >> (i % lanes) & 1 ? -scale : scale;
}

template <class T> __device__ T warp_max(T x) {
#pragma unroll
  for (unsigned width = lanes / 2; width > 0; width /= 2) {
    const T other = __shfl_xor_sync(~0u, x, int(width));
    x = x < other ? other : x;
  }
  return x;
}

// Round to the nearest integer, ties to even, and limit it to 127: near the smallest numbers the scale is
// inexact.
__device__ inline float code_of(float x) { return fmaxf(-127, fminf(rintf(x), 127)); }
__device__ inline double code_of(double x) { return fmax(-127, fmin(rint(x), 127)); }

// Encode elements first to first + 255: scale = max
// x
// / 127, code = x / scale rounded, or 0 where all are 0. Subtract scale code from x.
template <class T>
__device__ void take_group(T* x, size_t n, size_t first, signed char* codes, T* scale_of_group,
                           unsigned lane) {
  T largest = 0;
  for (size_t i = first + lane; i < n && i < first + group; i += lanes)
    largest = signed_as(x[i], T(1)) > largest ? signed_as(x[i], T(1)) : largest;
  const T scale = warp_max(largest) / T(127);
  if (lane == 0) *scale_of_group = scale;
  for (size_t i = first + lane; i < n && i < first + group; i += lanes) {
    const T ratio = x[i] / scale;
    const T code = scale > 0 && ratio == ratio ? code_of(ratio) : T(0);  // 0 for NaN
    codes[i] = static_cast<signed char>(code);
    x[i] -= scale * code;
  }
}

template <class T>
__global__ void __launch_bounds__(256) take_bytes(T* x, size_t n, signed char* codes, T* scales) {
  for (size_t g = this_warp(); g * group < n; g += all_warps())
    take_group(x, n, g * group, codes, scales + g, threadIdx.x % lanes);
}

template <class T>
__global__ void __launch_bounds__(256)
    from_bytes(const signed char* codes, const T* scales, size_t n, T* out) {
  const size_t stride = size_t(gridDim.x) * blockDim.x;
  for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride)
    out[i] = scales[i / group] * T(codes[i]);
}

}  // namespace loosestep
