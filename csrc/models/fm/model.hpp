// Factorization machines, trained by SGD on sparse rows.
//
//   p = b + sum_j w_j x_j + 1/2 sum_f ((sum_j v_jf x_j)^2 - sum_j v_jf^2 x_j^2),   s_f = sum_j v_jf x_j
//   v_jf -= a_j (g x_j (s_f - v_jf x_j) + l v_jf)   w_j -= a_j (g x_j + l_w w_j)   b -= a g,   g = dloss/dp
// for the features j of the example, with all values from before the update.
#pragma once

#include <cstdint>

#include "models/simd/row_layout.hpp"

namespace loosestep::fm {

using simd::line, simd::most_lines;

// CSR rows; a row has each feature at most once.
struct Examples {
  const std::int64_t* begin;  // of every row, then the end
  const std::int32_t* feature;
  const float* value;
  const float* target;  // -1 or 1 for the logistic loss
  const float* weight;  // of the loss of each example, or null
};

// The other numbers of a feature. AdaGrad's sums are 1 plus the mean squares of the gradients.
struct FeatureState {
  float w, squares_w, squares_v, unused;
};

struct Model {
  float* v;  // rows, padded with zeros
  FeatureState* states;
  float* intercept;  // or null
  int lines, rank;
  float rate, l2, l2_linear;
  bool adagrad;
};

enum Loss : int { squared, logistic, losses };

// Train on examples [begin, end) in order; return the sum of their losses, each before its own update.
using LearnKernel = double (*)(const Model& model, const Examples& examples, std::int64_t begin,
                               std::int64_t end);
// out[i] = the prediction for example i.
using ScoreKernel = void (*)(const Model& model, const Examples& examples, std::int64_t begin,
                             std::int64_t end, float* out);

struct KernelTable {
  const char* name;
  LearnKernel learn[losses][most_lines];
  ScoreKernel score[most_lines];
};

const KernelTable& kernel_table(const char* instruction_set);
extern const KernelTable atomic_table;  // uses relaxed atomics instead of vectors

}  // namespace loosestep::fm
