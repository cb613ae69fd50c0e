// Kernels that show what the emulation shows: right ones and wrong ones.
//
// instances: sum<float>, sum<double>, reverse, forgets_a_barrier, half_wait, reads_a_stranger, misaligned
// instances: nested, numbered
#if defined(__CUDACC__)
#define DYNAMIC(T, name) extern __shared__ T name[];
#else
#define DYNAMIC(T, name) T* name = reinterpret_cast<T*>(emulated::shared_bytes.data());
#endif

// One sum a block, over its lanes by shuffles and over its warps by shared memory.
template <class T> __global__ void sum(const T* x, T* out, int n) {
  __shared__ T of_warps[32];
  const int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  T total = i < n ? x[i] : T(0);
  for (int by = 16; by; by /= 2) total += __shfl_down_sync(~0u, total, by);
  if (lane == 0) of_warps[warp] = total;
  __syncthreads();
  if (warp != 0) return;
  total = lane < int(blockDim.x / 32) ? of_warps[lane] : T(0);
  for (int by = 16; by; by /= 2) total += __shfl_down_sync(~0u, total, by);
  if (lane == 0) out[blockIdx.x] = total;
}

__global__ void reverse(const float* x, float* out) {
  DYNAMIC(float, kept)
  kept[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}

__global__ void forgets_a_barrier(const float* x, float* out) {
  DYNAMIC(float, kept)
  kept[threadIdx.x] = x[threadIdx.x];
  out[threadIdx.x] = kept[0];
}

__global__ void half_wait(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void reads_a_stranger(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 20);
}

struct alignas(16) Vector {
  float x[4];
};

__global__ void misaligned(float* x) { *reinterpret_cast<Vector*>(x + 1) = Vector{}; }

// Barriers in a loop, votes, and atomics whose order does not matter.
__global__ void nested(unsigned* out, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const unsigned odd = __ballot_sync(~0u, threadIdx.x & 1);
    if (threadIdx.x % 32 == 0) atomicAdd(out, static_cast<unsigned>(__popc(odd)));
    __syncthreads();
  }
}

__global__ void numbered(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}
