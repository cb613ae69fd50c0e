// What every rule needs. A rule is a formula for one element: a C++17 functor for host and device that
// includes no standard header, so that a run-time compiler can take this folder as it is.
//
//   name        the op's name                        parameters  its arguments, buffers before scalars
//   fields      the scalars, in that order           operator()  T& is a written buffer, T a read one
//
// `only_writes` marks a rule that does not read its last buffer. One whose fields are not its scalars has
// `static from(const double* scalars)` as well.
#pragma once

#if defined(__CUDACC__)
#define HD __host__ __device__ __forceinline__
#else
// Always inlined: no out-of-line copy exists that a linker could take from another instruction set's file.
#define HD inline __attribute__((always_inline))
#endif

namespace loosestep {

#if defined(__CUDACC__)
HD float root(float x) { return sqrtf(x); }
HD double root(double x) { return sqrt(x); }
HD double power(double x, double y) { return pow(x, y); }
HD double modulo(double x, double y) { return fmod(x, y); }
#else
HD float root(float x) { return __builtin_sqrtf(x); }
HD double root(double x) { return __builtin_sqrt(x); }
HD double power(double x, double y) { return __builtin_pow(x, y); }
HD double modulo(double x, double y) { return __builtin_fmod(x, y); }
#endif

}  // namespace loosestep
