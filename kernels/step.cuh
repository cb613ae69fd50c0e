// Applies a rule to buffers at any addresses: 16 bytes of each at a time if all have the same distance from a
// multiple of 16 bytes, as views at one offset of flat buffers do, with single elements at the ends;
// otherwise element by element.
#pragma once
#include "kernels/number.cuh"
#include "kernels/vector.cuh"
#include "rules/all.hpp"
#include "rules/arguments.hpp"

namespace loosestep {

// The addresses of a rule's buffers.
template <int count> struct Places {
  void* at[count];
};

// Applies a rule to `width` adjacent elements of every buffer.
template <class R, class T, int width, class A, class I> struct Step;
template <class R, class T, int width, class... A, int... I>
struct Step<R, T, width, Types<A...>, Indices<I...>> {
  using Number = typename Arithmetic<T>::type;
  using Neighbours = Vector<T, width>;
  static constexpr int count = sizeof...(A);
  // the number of buffers that it reads, which come first
  static constexpr int read = only_writes<R> ? count - 1 : count;

  const R& rule;
  const Places<count>& places;

  __device__ __forceinline__ Neighbours& at(int i, size_t begin) const {
    return *reinterpret_cast<Neighbours*>(static_cast<T*>(places.at[i]) + begin);
  }

  __device__ __forceinline__ void operator()(size_t begin) const {
    Neighbours v[count] = {};
    ((I < read ? void(v[I] = at(I, begin)) : void()), ...);
#pragma unroll
    for (int j = 0; j < width; ++j) one(v[I].of[j]...);
    ((is_written<A> ? void(at(I, begin) = v[I]) : void()), ...);
  }

  template <class... E> __device__ __forceinline__ void one(E&... e) const {
    Number x[] = {widened(e)...};
    rule(x[I]...);
    ((is_written<A> ? narrow(x[I], e) : void()), ...);
  }
};

template <int count, int... I>
__device__ __forceinline__ bool lie_alike(const Places<count>& places, Indices<I...>) {
  return ((past_aligned(places.at[I]) == past_aligned(places.at[0])) && ...);
}

// Apply a rule to the first `n` elements. A thread begins at `first` and advances by `stride`.
template <class T, class R>
__device__ __forceinline__ void walk(const R& rule, const Places<Arguments<R>::count>& places, size_t n,
                                     size_t first, size_t stride) {
  using types = typename Arguments<R>::types;
  using each = Count<Arguments<R>::count>;
  constexpr int width = access_bytes / sizeof(T);
  const size_t head = before_aligned(static_cast<T*>(places.at[0]), n);
  const size_t vectors = lie_alike(places, each{}) ? (n - head) / width : 0;
  const Step<R, T, width, types, each> many{rule, places};
  for (size_t i = first; i < vectors; i += stride) many(head + i * width);
  const Step<R, T, 1, types, each> one{rule, places};
  for (size_t i = first; i < n - vectors * width; i += stride) one(i < head ? i : i + vectors * width);
}

}  // namespace loosestep
