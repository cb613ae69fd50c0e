// Hogwild on a GPU: one linear model, updated by thousands of warps at once without locks (Recht, Re, Wright,
// Niu 2011). A warp processes a row at a time: its lanes sum the score and update the weights of its
// features.
//
// The last weight is the intercept, a feature of value 1 in every row. `racy` stores the sum with the value
// that was loaded, so updates can be lost; `exact` adds atomically. Weights are loaded past the first-level
// cache, which does not see the stores of other multiprocessors.
//
// instances: linear<Racy>, linear<Exact>
#include "kernels/adds.cuh"
#include "rules/losses.hpp"
#include "rules/rates.hpp"

namespace loosestep {

struct Rows {
  const long long* starts;  // of row i: starts[i] to starts[i + 1] - 1
  const int* columns;
  const float* values;
  const float* targets;
  const float* weights;  // or null: all 1
};

struct Linear {
  float* weights;
  size_t features;
  float intercept_step;  // a factor of the step size; 0: no intercept
  OneLoss loss;
  Rate rate;
};

// Rows begin to end - 1; the first is step number steps + 1 of the training.
struct Share {
  size_t begin, end, steps;
};

__device__ inline bool known(const Linear& model, int column) { return unsigned(column) < model.features; }

// Return the score of a row, the same in every lane: everything is read before the lanes are synchronized, so
// none sees an update of another. NaN where a column is outside the model.
__device__ inline float score(const Linear& model, const Rows& rows, size_t row, unsigned lane) {
  float sum = lane == 0 && model.intercept_step > 0 ? fresh(model.weights + model.features) : 0;
  for (long long k = rows.starts[row] + lane; k < rows.starts[row + 1]; k += lanes)
    sum += known(model, rows.columns[k]) ? fresh(model.weights + rows.columns[k]) * rows.values[k]
                                         : from_bits(0x7fc00000u);
  return warp_sum(sum);
}

template <class Adds>
__device__ void move(const Linear& model, const Rows& rows, size_t row, float step, unsigned lane) {
  for (long long k = rows.starts[row] + lane; k < rows.starts[row + 1]; k += lanes)
    if (known(model, rows.columns[k])) Adds::add(model.weights + rows.columns[k], -step * rows.values[k]);
  if (lane == 0 && model.intercept_step > 0)
    Adds::add(model.weights + model.features, -step * model.intercept_step);
}

// Update the model with one row; return the loss before. A score that is NaN changes nothing and is returned.
template <class Adds>
__device__ double visit(const Linear& model, const Rows& rows, size_t i, float eta, unsigned lane) {
  const float p = score(model, rows, i, lane), y = rows.targets[i],
              weight = rows.weights ? rows.weights[i] : 1;
  if (p != p) return p;
  const float slope = model.loss.slope(p, y) * weight;
  if (slope != 0) move<Adds>(model, rows, i, eta * slope, lane);
  __syncwarp();  // the warp's next row must see the updates of all lanes
  return model.loss.value(p, y) * weight;
}

// Visit the rows of a share; add their losses, each before its own update, to `loss`.
template <class Adds>
__global__ void __launch_bounds__(256) linear(Linear model, Rows rows, Share share, double* loss) {
  const unsigned lane = threadIdx.x % lanes;
  double sum = 0;
  for (size_t i = share.begin + this_warp(); i < share.end; i += all_warps())
    sum += visit<Adds>(model, rows, i, model.rate.at(share.steps + (i - share.begin) + 1), lane);
  if (lane == 0) atomicAdd(loss, sum);
}

}  // namespace loosestep
