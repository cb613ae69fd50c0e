// Factorization machines by SGD over sparse rows: what learning some examples needs.
//
//   p = b + sum_j w_j x_j + 1/2 sum_f ((sum_j v_jf x_j)^2 - sum_j v_jf^2 x_j^2),   s_f = sum_j v_jf x_j
//   v_jf -= a_j (g x_j (s_f - v_jf x_j) + l v_jf)   w_j -= a_j (g x_j + l_w w_j)   b -= a g,   g = dloss/dp
// for the features j of the example alone, all from their values before it.
#pragma once

#include <cstdint>

#include "models/factors.hpp"

namespace loosestep::factors {

// Rows of features (CSR), each feature at most once a row.
struct Examples {
  const std::int64_t* begin;  // of every row, and the end
  const std::int32_t* feature;
  const float* value;
  const float* target;  // of the logistic loss -1 or 1
  const float* weight;  // of an example's loss, or null
};

// A feature's numbers other than v, in one place: AdaGrad's sums are 1 and the mean squares of its gradients.
struct Head {
  float w, squares_w, squares_v, unused;
};

struct Machine {
  float* v;  // padded rows
  Head* heads;
  float* intercept;  // null: none
  int lines, rank;
  float rate, l2, l2_linear;
  bool adagrad;
};

enum Loss : int { squared, logistic, losses };

// Learns examples [begin, end) in order, and returns the sum of their losses before it.
using Learn = double (*)(const Machine& machine, const Examples& examples, std::int64_t begin,
                         std::int64_t end);
// out[i] = p of example i.
using Score = void (*)(const Machine& machine, const Examples& examples, std::int64_t begin, std::int64_t end,
                       float* out);

struct Machines {
  const char* name;
  Learn learn[losses][most_lines];
  Score score[most_lines];
};

const Machines& machines(const char* instruction_set);
extern const Machines atomic_machines;  // element by element through relaxed atomics

}  // namespace loosestep::factors
