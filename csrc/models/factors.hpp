// Matrix factorization by SGD: what a visit of ratings needs, and where its loops are to be found.
//
// For a rating r of (u, i) of weight w, with e = w (r - (b_u + b_i + p_u.q_i)), both rows from their values
// before:
//   p_u += a_u (e q_i - l_u p_u)    q_i += a_i (e p_u - l_i q_i)    b_u += a_u (e - l_u b_u)    b_i likewise
#pragma once

#include <cstddef>
#include <cstdint>

namespace loosestep::factors {

struct Rating {
  std::uint32_t user, item;
  float value;   // less the mean
  float weight;  // of its squared error
};

inline constexpr int line = 16;       // elements that a row's length is a multiple of
inline constexpr int most_lines = 8;  // of a row

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
enum class Adds : int { racy, exact };

// What ratings that were visited add up to: the sum of w (r - ...)^2, each before its own update.
struct Visited {
  double squares = 0;
  std::uint64_t ratings = 0;
};

// A thread's own: its random numbers for bfloat16's rounding, and what it has visited.
struct Visitor {
  std::uint32_t random[line];
  Visited visited;
};

// Visits [begin, end) in order; up to `last` there are ratings whose rows may be fetched ahead.
using Visit = void (*)(const Model& model, const Rating* begin, const Rating* end, const Rating* last,
                       Visitor& visitor);

struct Visits {
  const char* name;
  Visit of[storages][most_lines];
};

// Vectors of the instruction set of that name; racy.
const Visits& visits(const char* instruction_set);
// Element by element through relaxed atomics. Exact adds lose nothing; they know no bfloat16 (null).
extern const Visits atomic_racy, atomic_exact;

}  // namespace loosestep::factors
