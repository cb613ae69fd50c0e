// Shared by the Hogwild kernels: indices of warps, and the two ways to add to numbers that others update.
#pragma once

namespace loosestep {

constexpr unsigned lanes = 32;

__device__ inline size_t this_warp() { return (size_t(blockIdx.x) * blockDim.x + threadIdx.x) / lanes; }
__device__ inline size_t all_warps() { return size_t(gridDim.x) * blockDim.x / lanes; }

// Return the sum over the lanes of a warp, the same in every lane.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (unsigned width = lanes / 2; width > 0; width /= 2) x += __shfl_xor_sync(~0u, x, int(width));
  return x;
}

// Load past the first-level cache, which does not see the stores of other multiprocessors.
__device__ inline float fresh(const float* at) { return *static_cast<const volatile float*>(at); }

// Stores the sum with the value that was loaded: an update by others in between is lost.
struct Racy {
  __device__ static void add(float* at, float before, float change) {
    *static_cast<volatile float*>(at) = before + change;
  }
  __device__ static void add(float* at, float change) { add(at, fresh(at), change); }
};

// Adds atomically: no update is lost, and the old value is not needed.
struct Exact {
  __device__ static void add(float* at, float, float change) { add(at, change); }
  __device__ static void add(float* at, float change) { atomicAdd(at, change); }
};

}  // namespace loosestep
