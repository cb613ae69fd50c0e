// The requirements of a rule: a formula for one element, as a C++17 functor for host and device that includes
// no standard header, so that a run-time compiler can include this folder.
//
//   name        the op's name                        parameters  its arguments, buffers before scalars
//   fields      the scalars, in that order           operator()  T& is a written buffer, T a read one
//
// `only_writes` marks a rule that does not read its last buffer. A rule whose fields are not its scalars also
// has `static from(const double* scalars)`.
#pragma once

#if defined(__CUDACC__)
#define HD __host__ __device__ __forceinline__
#else
// Always inlined: an out-of-line copy could be linked into code for another instruction set.
#define HD inline __attribute__((always_inline))
#endif

namespace loosestep {

#if defined(__CUDACC__)
HD float root(float x) { return sqrtf(x); }
HD double root(double x) { return sqrt(x); }
HD double power(double x, double y) { return pow(x, y); }
HD double modulo(double x, double y) { return fmod(x, y); }
HD float signed_as(float x, float y) { return copysignf(x, y); }
HD double signed_as(double x, double y) { return copysign(x, y); }
HD float exponential(float x) { return expf(x); }
HD double exponential(double x) { return exp(x); }
HD double log_of_one_and(double x) { return log1p(x); }
HD unsigned bits(float x) { return __float_as_uint(x); }
HD float from_bits(unsigned x) { return __uint_as_float(x); }
#else
HD float root(float x) { return __builtin_sqrtf(x); }
HD double root(double x) { return __builtin_sqrt(x); }
HD double power(double x, double y) { return __builtin_pow(x, y); }
HD double modulo(double x, double y) { return __builtin_fmod(x, y); }
HD float signed_as(float x, float y) { return __builtin_copysignf(x, y); }
HD double signed_as(double x, double y) { return __builtin_copysign(x, y); }
HD float exponential(float x) { return __builtin_expf(x); }
HD double exponential(double x) { return __builtin_exp(x); }
HD double log_of_one_and(double x) { return __builtin_log1p(x); }
HD unsigned bits(float x) {
  unsigned same;
  __builtin_memcpy(&same, &x, sizeof same);
  return same;
}
HD float from_bits(unsigned x) {
  float same;
  __builtin_memcpy(&same, &x, sizeof same);
  return same;
}
#endif

}  // namespace loosestep
