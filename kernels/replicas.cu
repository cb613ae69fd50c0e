// Ops on many replicas; everything is read and written once.
//
// `elastic_all`: apply `elastic(x, c, rate)` to every replica and the center, one after another. `mix`:
// replace each x_i by the sum of w_ij x_j over all j, from left to right. `fold`: a sum of w_j x_j, divided
// once.
//
// `packs`: the number of accesses of sixteen bytes; 0 where an address is not aligned to that.
//
// instances: elastic_all<float>, elastic_all<double>, fold<float>, fold<double>
// instances: mix<float, 4>, mix<float, 8>, mix<float, 16>, mix<double, 4>, mix<double, 8>, mix<double, 16>
#include "kernels/vector.cuh"
#include "rules/elastic.hpp"

namespace loosestep {

constexpr unsigned most = 64;  // replicas in a launch of elastic_all
constexpr unsigned together = 8;  // replicas that are loaded before the first is used
constexpr unsigned threads = 256;

// Addresses, passed by value to the kernel.
struct Replicas {
  void* of[most];
};

template <class T> using Pack = Vector<T, access_bytes / sizeof(T)>;
template <class T>
using Single = Vector<T, 1>;  // where an address or a length is not a multiple of sixteen bytes

template <class P> __device__ P& at(void* buffer, size_t i) { return static_cast<P*>(buffer)[i]; }

__device__ inline size_t first_one() { return size_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline size_t stride() { return size_t(gridDim.x) * blockDim.x; }

// Load buffers from `k` on, at most `room` and none beyond `n`.
template <class P, unsigned room>
__device__ void read_some(P (&x)[room], const Replicas& buffers, unsigned k, unsigned n, size_t i) {
#pragma unroll
  for (unsigned j = 0; j < room; ++j)
    if (k + j < n) x[j] = at<P>(buffers.of[k + j], i);
}

// Update up to `together` replicas from `k` on.
template <class P, class T>
__device__ void elastic_some(const Elastic<T>& rule, const Replicas& replicas, unsigned k, unsigned n, P& c,
                             size_t i) {
  P x[together];
  read_some(x, replicas, k, n, i);
#pragma unroll
  for (unsigned j = 0; j < together; ++j)
    if (k + j < n)
      for (unsigned e = 0; e < sizeof(P) / sizeof(T); ++e) rule(x[j].of[e], c.of[e]);
#pragma unroll
  for (unsigned j = 0; j < together; ++j)
    if (k + j < n) at<P>(replicas.of[k + j], i) = x[j];
}

// Update elements [begin, end), counted in P.
template <class P, class T>
__device__ void elastic_range(const Elastic<T>& rule, const Replicas& replicas, unsigned n, void* center,
                              size_t begin, size_t end) {
  for (size_t i = begin + first_one(); i < end; i += stride()) {
    P c = at<P>(center, i);
    for (unsigned k = 0; k < n; k += together) elastic_some(rule, replicas, k, n, c, i);
    at<P>(center, i) = c;
  }
}

template <class T>
__global__ void __launch_bounds__(threads)
    elastic_all(Replicas replicas, unsigned n, void* center, size_t size, size_t packs, T rate) {
  const Elastic<T> rule{rate};
  elastic_range<Pack<T>>(rule, replicas, n, center, 0, packs);
  elastic_range<Single<T>>(rule, replicas, n, center, packs * (access_bytes / sizeof(T)), size);
}

// Weights of a fold, passed by value to the kernel; 1 without weights, which changes no product.
template <class T> struct Weights {
  T of[most];
};

// Add up to `together` terms from `k` on; the first of all terms begins the sum.
template <class P, class T>
__device__ void fold_some(const Replicas& terms, const Weights<T>& weights, unsigned k, unsigned n, P& sum,
                          size_t i) {
  P x[together];
  read_some(x, terms, k, n, i);
#pragma unroll
  for (unsigned j = 0; j < together; ++j)
    if (k + j < n)
      for (unsigned e = 0; e < sizeof(P) / sizeof(T); ++e) {
        const T term = weights.of[k + j] * x[j].of[e];
        sum.of[e] = k + j == 0 ? term : sum.of[e] + term;
      }
}

template <class P, class T>
__device__ void fold_range(const Replicas& terms, const Weights<T>& weights, unsigned n, T divisor, void* out,
                           size_t begin, size_t end) {
  for (size_t i = begin + first_one(); i < end; i += stride()) {
    P sum{};
    for (unsigned k = 0; k < n; k += together) fold_some(terms, weights, k, n, sum, i);
    for (unsigned e = 0; e < sizeof(P) / sizeof(T); ++e) sum.of[e] /= divisor;
    at<P>(out, i) = sum;
  }
}

// `out` may be one of the terms.
template <class T>
__global__ void __launch_bounds__(threads)
    fold(Replicas terms, Weights<T> weights, unsigned n, T divisor, void* out, size_t size, size_t packs) {
  fold_range<Pack<T>>(terms, weights, n, divisor, out, 0, packs);
  fold_range<Single<T>>(terms, weights, n, divisor, out, packs * (access_bytes / sizeof(T)), size);
}

template <class P, class T, unsigned room>
__device__ P weighted(const P (&x)[room], const T* weights, unsigned n) {
  P sum;
  for (unsigned e = 0; e < sizeof(P) / sizeof(T); ++e) sum.of[e] = weights[0] * x[0].of[e];
#pragma unroll
  for (unsigned j = 1; j < room; ++j)
    if (j < n)
      for (unsigned e = 0; e < sizeof(P) / sizeof(T); ++e) sum.of[e] += weights[j] * x[j].of[e];
  return sum;
}

// Keeps up to `room` replicas in registers. `weights`: n rows of n.
template <class P, class T, unsigned room>
__device__ void mix_range(const Replicas& replicas, unsigned n, const T* weights, size_t begin, size_t end) {
  for (size_t i = begin + first_one(); i < end; i += stride()) {
    P x[room];
    read_some(x, replicas, 0, n, i);
    for (unsigned k = 0; k < n; ++k) at<P>(replicas.of[k], i) = weighted(x, weights + k * n, n);
  }
}

template <class T, unsigned room>
__global__ void __launch_bounds__(threads)
    mix(Replicas replicas, unsigned n, const T* weights, size_t size, size_t packs) {
  __shared__ T mine[room * room];
  for (unsigned i = threadIdx.x; i < n * n; i += blockDim.x) mine[i] = weights[i];
  __syncthreads();
  mix_range<Pack<T>, T, room>(replicas, n, mine, 0, packs);
  mix_range<Single<T>, T, room>(replicas, n, mine, packs * (access_bytes / sizeof(T)), size);
}

}  // namespace loosestep
