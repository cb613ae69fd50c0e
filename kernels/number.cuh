// Numbers of two bytes, computed as float. Needs no header of CUDA, so none has to be found at run time.
#pragma once
#include "rules/rule.hpp"

namespace loosestep {

struct float16 {
  unsigned short bits;
};
struct bfloat16 {
  unsigned short bits;
};

// The type of a rule's arithmetic.
template <class T> struct Arithmetic {
  using type = T;
};
template <> struct Arithmetic<float16> {
  using type = float;
};
template <> struct Arithmetic<bfloat16> {
  using type = float;
};

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ double widened(double x) { return x; }
__device__ __forceinline__ float widened(bfloat16 x) { return __uint_as_float(unsigned(x.bits) << 16); }

#if defined(__CUDA_ARCH__)
__device__ __forceinline__ float widened(float16 x) {
  float made;
  asm("cvt.f32.f16 %0, %1;" : "=f"(made) : "h"(x.bits));
  return made;
}
#else
// Like the instruction: 2^112 is the difference of the exponents' biases, and makes subnormal numbers right
// too.
__device__ __forceinline__ float widened(float16 x) {
  const unsigned sign = (x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
  const unsigned top = rest >= 0x7c00u ? 0x7f800000u : 0;
  return __uint_as_float(sign | top | __float_as_uint(__uint_as_float(rest << 13) * 0x1p112f));
}
#endif

// Round to nearest, ties to even; NaN becomes 0x7fff, as by the instructions.
__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(double x, double& to) { to = x; }

#if defined(__CUDA_ARCH__)
__device__ __forceinline__ void narrow(float x, float16& to) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
}
#else
__device__ __forceinline__ unsigned short half_of(unsigned magnitude) {
  if (magnitude > 0x7f800000u) return 0x7fff;
  if (magnitude >= 0x477ff000u) return 0x7c00;  // 65520 and above round to infinity
  if (magnitude < 0x38800000u)  // subnormal: adding 1/2 rounds at the right place
    return static_cast<unsigned short>(__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u);
  return static_cast<unsigned short>((magnitude + 0xfffu + (magnitude >> 13 & 1) - 0x38000000u) >> 13);
}

__device__ __forceinline__ void narrow(float x, float16& to) {
  const unsigned bits = __float_as_uint(x), made = half_of(bits & 0x7fffffffu);
  to.bits = static_cast<unsigned short>(made == 0x7fff ? made : made | (bits >> 16 & 0x8000u));
}
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
__device__ __forceinline__ void narrow(float x, bfloat16& to) {
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
}
#else
__device__ __forceinline__ void narrow(float x, bfloat16& to) {
  const unsigned bits = __float_as_uint(x);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to.bits = static_cast<unsigned short>(is_nan ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
#endif

}  // namespace loosestep
