// Any rule over buffers that lie anywhere, 16 bytes at a time.
//
// The first buffer's elements before its first multiple of 16 bytes, and those after its last, are taken one
// by one. Of the others, those that are aligned there too are accessed by 16 bytes, the rest by elements.
//
// instances: elementwise<RULE, float>, elementwise<RULE, double>, elementwise<RULE, float16>
// instances: elementwise<RULE, bfloat16>
#include "kernels/number.cuh"
#include "kernels/vector.cuh"
#include "rules/all.hpp"
#include "rules/arguments.hpp"

namespace loosestep {

// The addresses of a rule's buffers.
template <int count> struct Places {
  void* at[count];
};

// One rule on `width` neighbours of every buffer.
template <class R, class T, int width, class A, class I> struct Step;
template <class R, class T, int width, class... A, int... I>
struct Step<R, T, width, Types<A...>, Indices<I...>> {
  using Number = typename Arithmetic<T>::type;
  static constexpr int count = sizeof...(A);
  static constexpr int read = only_writes<R> ? count - 1 : count;  // the first so many

  const R& rule;
  const Places<count>& places;
  unsigned aligned;  // bit i: buffer i allows one access

  __device__ __forceinline__ T* at(int i, size_t begin) const {
    return static_cast<T*>(places.at[i]) + begin;
  }

  __device__ __forceinline__ void operator()(size_t begin) const {
    Vector<T, width> v[count] = {};
    ((I < read ? load(v[I], at(I, begin), aligned >> I & 1) : void()), ...);
#pragma unroll
    for (int j = 0; j < width; ++j) one(v[I].of[j]...);
    ((is_written<A> ? store(at(I, begin), v[I], aligned >> I & 1) : void()), ...);
  }

  template <class... E> __device__ __forceinline__ void one(E&... e) const {
    Number x[] = {widened(e)...};
    rule(x[I]...);
    ((is_written<A> ? narrow(x[I], e) : void()), ...);
  }
};

template <class T, int count, int... I>
__device__ __forceinline__ unsigned aligned_from(const Places<count>& places, size_t head, Indices<I...>) {
  return ((is_aligned(static_cast<T*>(places.at[I]) + head) ? 1u << I : 0) | ...);
}

template <template <class> class Rule, class T, class R = Rule<typename Arithmetic<T>::type>,
          int count = Arguments<R>::count>
__global__ void __launch_bounds__(256) elementwise(R rule, Places<count> places, size_t n) {
  using types = typename Arguments<R>::types;
  constexpr int width = access_bytes / sizeof(T);
  const size_t first = blockIdx.x * size_t(blockDim.x) + threadIdx.x, stride = size_t(gridDim.x) * blockDim.x;
  const size_t head = before_aligned(static_cast<T*>(places.at[0]), n), vectors = (n - head) / width;
  const unsigned aligned = aligned_from<T>(places, head, Count<count>{});
  const Step<R, T, width, types, Count<count>> many{rule, places, aligned};
  for (size_t i = first; i < vectors; i += stride) many(head + i * width);
  const Step<R, T, 1, types, Count<count>> one{rule, places, ~0u};
  for (size_t i = first; i < n - vectors * width; i += stride) one(i < head ? i : i + vectors * width);
}

}  // namespace loosestep
