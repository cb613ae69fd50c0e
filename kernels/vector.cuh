// Accesses of 16 bytes, where addresses are aligned to them.
#pragma once

namespace loosestep {

inline constexpr int access_bytes = 16;

// Adjacent elements that are accessed at once.
template <class T, int width> struct alignas(sizeof(T) * width) Vector {
  T of[width];
};

__device__ __forceinline__ size_t past_aligned(const void* place) {
  return reinterpret_cast<unsigned long long>(place) % access_bytes;
}

// Return how many elements precede the first aligned access.
template <class T> __device__ __forceinline__ size_t before_aligned(const T* place, size_t n) {
  const size_t past = past_aligned(place), elements = past ? (access_bytes - past) / sizeof(T) : 0;
  return elements < n ? elements : n;
}

}  // namespace loosestep
