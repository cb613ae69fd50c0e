// Matrix factorization, trained by SGD.
//
// For a rating r of (u, i) with weight w and e = w (r - (b_u + b_i + p_u.q_i)), with both rows from before
// the update:
//   p_u += a_u (e q_i - l_u p_u)    q_i += a_i (e p_u - l_i q_i)    b_u += a_u (e - l_u b_u)    b_i likewise
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/simd/row_layout.hpp"

namespace loosestep::mf {

using simd::Adds, simd::line, simd::most_lines;

struct Rating {
  std::uint32_t user, item;
  float value;   // the mean subtracted
  float weight;  // of the squared error
};

// The users or the items. Rows are padded with zeros, which stay zeros.
struct Side {
  void* rows;
  float* bias;         // or null
  float* squares;      // or null; AdaGrad's: 1 plus the mean squares of all gradients so far, one sum per row
  const float* l2_of;  // or null; l of each row instead of `l2`
  float l2;
};

struct Model {
  Side users, items;
  int lines, rank;
  float rate;  // a; with AdaGrad a_u = a / sqrt(squares_u)
};

enum Storage : int { float32, bfloat16, storages };

// Sums over the visited ratings: of w (r - ...)^2, each before its own update.
struct VisitSums {
  double squares = 0;
  std::uint64_t ratings = 0;
};

// The random numbers of a thread for rounding to bfloat16, and its sums.
struct ThreadState {
  std::uint32_t random[line];
  VisitSums sums;
};

// Visit [begin, end) in order. Ratings up to `last` may be prefetched.
using VisitKernel = void (*)(const Model& model, const Rating* begin, const Rating* end, const Rating* last,
                             ThreadState& thread_state);

struct KernelTable {
  const char* name;
  VisitKernel of[storages][most_lines];
};

// Return the vector kernels of an instruction set; their updates are racy.
const KernelTable& kernel_table(const char* instruction_set);
// Kernels with relaxed atomics instead of vectors. Exact adds lose no update; they do not exist for bfloat16
// (null).
extern const KernelTable atomic_racy, atomic_exact;

}  // namespace loosestep::mf
