// Rules with a normal random number for every element, from the same stream as on the CPU
// (csrc/rules/normals.hpp) and with the same bits. A thread computes the four numbers of a counter.
//
// `aligned`: every address is a multiple of four elements, and `start` of four.
//
// instances: noisy<Normal<float>, float>, noisy<Normal<double>, double>
// instances: noisy<AddNormal<float>, float>, noisy<AddNormal<double>, double>
// instances: noisy<Langevin<float>, float, const float>, noisy<Langevin<double>, double, const double>
#include "kernels/vector.cuh"
#include "rules/add_normal.hpp"
#include "rules/langevin.hpp"
#include "rules/normal.hpp"
#include "rules/normals.hpp"

namespace loosestep {

template <class T> __device__ Vector<T, 4>& four(T* x) { return *reinterpret_cast<Vector<T, 4>*>(x); }
template <class T> __device__ const Vector<T, 4>& four(const T* x) {
  return *reinterpret_cast<const Vector<T, 4>*>(x);
}

// Load four elements of every buffer, apply the rule, and store the first buffer: no rule here writes
// another.
template <class R, class T, class... Read>
__device__ void step_together(const R& rule, const float (&noise)[4], T* out, Vector<T, 4> x, Read... read) {
  for (int k = 0; k < 4; ++k) rule(x.of[k], read.of[k]..., noise[k]);
  four(out) = x;
}

// Element i of the buffers gets number `start` + i.
template <class R, class T, class... Read>
__global__ void __launch_bounds__(256)
    noisy(R rule, Noise noise, size_t start, size_t n, bool aligned, T* x, Read*... read) {
  const size_t stride = size_t(gridDim.x) * blockDim.x, end = start + n;
  for (size_t at = start / 4 + size_t(blockIdx.x) * blockDim.x + threadIdx.x; 4 * at < end; at += stride) {
    const Four made = normals(noise, at);
    const float z[4] = {made.a, made.b, made.c, made.d};
    if (aligned && 4 * at + 4 <= end) {
      const size_t i = 4 * at - start;
      step_together(rule, z, x + i, four(x + i), four(read + i)...);
      continue;
    }
    for (size_t k = 0; k < 4; ++k)
      if (4 * at + k >= start && 4 * at + k < end)
        rule(x[4 * at + k - start], read[4 * at + k - start]..., z[k]);
  }
}

}  // namespace loosestep
