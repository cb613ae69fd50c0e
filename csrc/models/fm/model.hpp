// Factorization machines by SGD over sparse rows: what learning some examples needs.
//
//   p = b + sum_j w_j x_j + 1/2 sum_f ((sum_j v_jf x_j)^2 - sum_j v_jf^2 x_j^2),   s_f = sum_j v_jf x_j
//   v_jf -= a_j (g x_j (s_f - v_jf x_j) + l v_jf)   w_j -= a_j (g x_j + l_w w_j)   b -= a g,   g = dloss/dp
// for the features j of the example alone, all from their values before it.
#pragma once

#include <cstdint>

#include "models/simd/row_layout.hpp"

namespace loosestep::fm {

using simd::line, simd::most_lines;

// Rows of features (CSR), each feature at most once a row.
struct Examples {
  const std::int64_t* begin;  // of every row, and the end
  const std::int32_t* feature;
  const float* value;
  const float* target;  // of the logistic loss -1 or 1
  const float* weight;  // of an example's loss, or null
};

// A feature's numbers other than v, in one place: AdaGrad's sums are 1 and the mean squares of its gradients.
struct FeatureState {
  float w, squares_w, squares_v, unused;
};

struct Model {
  float* v;  // padded rows
  FeatureState* states;
  float* intercept;  // null: none
  int lines, rank;
  float rate, l2, l2_linear;
  bool adagrad;
};

enum Loss : int { squared, logistic, losses };

// Learns examples [begin, end) in order, and returns the sum of their losses before it.
using LearnKernel = double (*)(const Model& model, const Examples& examples, std::int64_t begin,
                               std::int64_t end);
// out[i] = p of example i.
using ScoreKernel = void (*)(const Model& model, const Examples& examples, std::int64_t begin,
                             std::int64_t end, float* out);

struct KernelTable {
  const char* name;
  LearnKernel learn[losses][most_lines];
  ScoreKernel score[most_lines];
};

const KernelTable& kernel_table(const char* instruction_set);
extern const KernelTable atomic_table;  // element by element through relaxed atomics

}  // namespace loosestep::fm
