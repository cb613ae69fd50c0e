// Rules that take a normal random number for every element: the stream of the CPU (csrc/rules/normals.hpp),
// to the bit. A thread makes the four numbers of a counter.
//
// `aligned`: whether every address is a multiple of four elements, and `start` of four.
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

// Four elements of every buffer are loaded, stepped, and stored where they are written.
template <class T> __device__ Vector<T, 4> loaded(const T* x) {
  return *reinterpret_cast<const Vector<T, 4>*>(x);
}
template <class T> __device__ void put(T* x, const Vector<T, 4>& from) {
  *reinterpret_cast<Vector<T, 4>*>(x) = from;
}
template <class T> __device__ void put(const T*, const Vector<T, 4>&) {}

template <class R, class... P>
__device__ void step_together(const R& rule, const float (&noise)[4], P*... p) {
  const auto step = [&](auto... x) {
    for (int k = 0; k < 4; ++k) rule(x.of[k]..., noise[k]);
    (put(p, x), ...);
  };
  step(loaded(p)...);
}

// Element i of the buffers gets number `start` + i.
template <class R, class... P>
__global__ void __launch_bounds__(256)
    noisy(R rule, Noise noise, size_t start, size_t n, bool aligned, P*... p) {
  const size_t stride = size_t(gridDim.x) * blockDim.x, end = start + n;
  for (size_t four = start / 4 + size_t(blockIdx.x) * blockDim.x + threadIdx.x; 4 * four < end;
       four += stride) {
    const Four made = normals(noise, four);
    const float z[4] = {made.a, made.b, made.c, made.d};
    if (aligned && 4 * four + 4 <= end) {
      step_together(rule, z, p + (4 * four - start)...);
      continue;
    }
    for (size_t k = 0; k < 4; ++k)
      if (4 * four + k >= start && 4 * four + k < end) rule(p[4 * four + k - start]..., z[k]);
  }
}

}  // namespace loosestep
