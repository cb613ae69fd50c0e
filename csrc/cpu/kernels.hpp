// The kernels of an instruction set, type-erased: one table for each, from one source (kernels.cpp). Tables
// are constants, so no code of an instruction set runs before the processor was asked for it.
#pragma once
#include <cstddef>

#include "rules/all.hpp"

namespace loosestep {

enum Dtype : int { float32, float64, dtypes };

// Apply a rule to elements [begin, end) of its buffers. `large`: no cache would hold the buffers of the whole
// call.
using Kernel = void (*)(const double* scalars, void* const* buffers, std::size_t begin, std::size_t end,
                        bool large);
inline constexpr std::size_t large_from = std::size_t(32) << 20;  // bytes of traffic

// out = (sum of w x, or of x without weights) / divisor; a divisor of 0 means no division.
struct Fold {
  const void* const* buffers;
  const double* weights;
  std::size_t count;
  double divisor;
  void* out;
  bool large;
};

inline constexpr std::size_t block = 4096;  // elements of a reduction that are summed separately
inline constexpr std::size_t lanes = 32;    // running sums of a block

// Likewise for a rule with noise; element i gets number `start` + i of the stream.
using NoisyKernel = void (*)(const double* scalars, void* const* buffers, const Noise& noise,
                             unsigned long long start, std::size_t begin, std::size_t end);

struct Table {
  const char* name;
  Kernel rules[Elementwise::size][dtypes];
  NoisyKernel noisy[Noisy::size][dtypes];
  void (*fold[dtypes])(const Fold& job, std::size_t begin, std::size_t end);
  void (*dot[dtypes])(const void* x, const void* y, double* sums, std::size_t begin, std::size_t end);
  double (*sum_of_sums)(double* sums, std::size_t n);  // of the results of dot, which it overwrites
  bool (*finite[dtypes])(const void* x, std::size_t begin, std::size_t end);
};

// Kernels that update shared buffers atomically, element by element; the same for all instruction sets.
struct Updates {
  const char* name;
  Kernel rules[Shared::size][dtypes];
};
extern const Updates exact, racy;
extern const Kernel load[dtypes];

struct Tables {
  const Table* const* begin;
  std::size_t count;
};
Tables available();  // in this processor, best first

}  // namespace loosestep
