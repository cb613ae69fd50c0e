// What an instruction set offers, type-erased: one table for each, made from one source (kernels.cpp).
// Tables are constants: nothing compiled for an instruction set runs before the processor was asked for it.
#pragma once
#include <cstddef>

#include "rules/all.hpp"

namespace loosestep {

enum Dtype : int { float32, float64, dtypes };

// A rule on elements [begin, end) of its buffers. The whole call is large where no cache would keep it.
using Kernel = void (*)(const double* scalars, void* const* buffers, std::size_t begin, std::size_t end,
                        bool large);
inline constexpr std::size_t large_from = std::size_t(32) << 20;  // bytes of traffic

// out = (sum of w x, or of x where there are no weights) / divisor; a divisor of 0 means no division.
struct Fold {
  const void* const* buffers;
  const double* weights;
  std::size_t count;
  double divisor;
  void* out;
  bool large;
};

inline constexpr std::size_t block = 4096;  // elements whose products a reduction sums by themselves
inline constexpr std::size_t lanes = 32;    // running sums inside a block

// A noisy rule likewise; element i gets number `start` + i of the stream.
using NoisyKernel = void (*)(const double* scalars, void* const* buffers, const Noise& noise,
                             unsigned long long start, std::size_t begin, std::size_t end);

struct Table {
  const char* name;
  Kernel rules[Elementwise::size][dtypes];
  NoisyKernel noisy[Noisy::size][dtypes];
  void (*fold[dtypes])(const Fold& job, std::size_t begin, std::size_t end);
  void (*dot[dtypes])(const void* x, const void* y, double* sums, std::size_t begin, std::size_t end);
  double (*sum_of_sums)(double* sums, std::size_t n);  // of dot's; overwrites them
  bool (*finite[dtypes])(const void* x, std::size_t begin, std::size_t end);
};

// The shared forms need no instruction set: single elements are read and written atomically.
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
Tables available();  // those this processor runs, best first

}  // namespace loosestep
