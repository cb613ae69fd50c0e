// Accesses of 16 bytes, where an address allows it.
#pragma once

namespace loosestep {

inline constexpr int access_bytes = 16;

// So many neighbours, moved in one access.
template <class T, int width> struct alignas(sizeof(T) * width) Vector {
  T of[width];
};

__device__ __forceinline__ bool is_aligned(const void* place) {
  return reinterpret_cast<unsigned long long>(place) % access_bytes == 0;
}

// Elements before the first that begins an access.
template <class T> __device__ __forceinline__ size_t before_aligned(const T* place, size_t n) {
  const size_t past = reinterpret_cast<unsigned long long>(place) % access_bytes;
  const size_t elements = past ? (access_bytes - past) / sizeof(T) : 0;
  return elements < n ? elements : n;
}

// Neighbours at any address; `aligned` says that one access is allowed.
template <class T, int width>
__device__ __forceinline__ void load(Vector<T, width>& to, const T* from, bool aligned) {
  if (aligned) {
    to = *reinterpret_cast<const Vector<T, width>*>(from);
  } else {
#pragma unroll
    for (int i = 0; i < width; ++i) to.of[i] = from[i];
  }
}

template <class T, int width>
__device__ __forceinline__ void store(T* to, const Vector<T, width>& from, bool aligned) {
  if (aligned) {
    *reinterpret_cast<Vector<T, width>*>(to) = from;
  } else {
#pragma unroll
    for (int i = 0; i < width; ++i) to[i] = from.of[i];
  }
}

}  // namespace loosestep
