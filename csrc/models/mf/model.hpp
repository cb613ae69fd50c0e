// Matrix factorization by SGD: what a visit of ratings needs, and where its loops are to be found.
//
// For a rating r of (u, i) of weight w, with e = w (r - (b_u + b_i + p_u.q_i)), both rows from their values
// before:
//   p_u += a_u (e q_i - l_u p_u)    q_i += a_i (e p_u - l_i q_i)    b_u += a_u (e - l_u b_u)    b_i likewise
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/simd/row_layout.hpp"

namespace loosestep::mf {

using simd::Adds, simd::line, simd::most_lines;

struct Rating {
  std::uint32_t user, item;
  float value;   // less the mean
  float weight;  // of its squared error
};

// Users or items. Rows are padded with zeros, which stay zeros.
struct Side {
  void* rows;
  float* bias;         // or null: none
  float* squares;      // or null; AdaGrad's: 1 and the mean square of every gradient so far, one sum a row
  const float* l2_of;  // or null; l of each row, in place of `l2`
  float l2;
};

struct Model {
  Side users, items;
  int lines, rank;
  float rate;  // a; with AdaGrad a_u = a / sqrt(squares_u)
};

enum Storage : int { float32, bfloat16, storages };

// What ratings that were visited add up to: the sum of w (r - ...)^2, each before its own update.
struct VisitSums {
  double squares = 0;
  std::uint64_t ratings = 0;
};

// A thread's own: its random numbers for bfloat16's rounding, and what it has visited.
struct ThreadState {
  std::uint32_t random[line];
  VisitSums sums;
};

// Visits [begin, end) in order; up to `last` there are ratings whose rows may be fetched ahead.
using VisitKernel = void (*)(const Model& model, const Rating* begin, const Rating* end, const Rating* last,
                             ThreadState& thread_state);

struct KernelTable {
  const char* name;
  VisitKernel of[storages][most_lines];
};

// Vectors of the instruction set of that name; racy.
const KernelTable& kernel_table(const char* instruction_set);
// Element by element through relaxed atomics. Exact adds lose nothing; they know no bfloat16 (null).
extern const KernelTable atomic_racy, atomic_exact;

}  // namespace loosestep::mf
