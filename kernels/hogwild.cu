// Hogwild on a card: one linear model in its memory, moved by thousands of warps at once, without locks
// (Recht, Re, Wright, Niu 2011). A warp has a row at a time: its lanes add up the score, and move the weights
// that it touches.
//
// The last weight is the intercept, which every row touches with a 1. Lost updates: `racy` stores what it
// made of what it loaded, `exact` adds atomically. Weights are read past the first cache, which other
// processors' stores do not reach.
//
// instances: linear<Racy>, linear<Exact>
#include "kernels/adds.cuh"
#include "rules/losses.hpp"
#include "rules/rates.hpp"

namespace loosestep {

struct Rows {
  const long long* starts;  // of row i: starts[i], up to starts[i + 1]
  const int* columns;
  const float* values;
  const float* targets;
  const float* weights;  // null: all 1
};

struct Linear {
  float* weights;
  size_t features;
  float intercept_step;  // times the step size; 0: no intercept
  OneLoss loss;
  Rate rate;
};

// Rows begin, begin + 1, ... end - 1, the first of them being the (steps + 1)-th of the training.
struct Share {
  size_t begin, end, steps;
};

__device__ inline bool known(const Linear& model, int column) { return unsigned(column) < model.features; }

// The same in every lane: all that is read is read before lanes meet, so none sees what another has moved. No
// number, where a column is none of the model's: it is not followed.
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

// The loss before the step. A score that is no number moves nothing, and is said.
template <class Adds>
__device__ double visit(const Linear& model, const Rows& rows, size_t i, float eta, unsigned lane) {
  const float p = score(model, rows, i, lane), y = rows.targets[i],
              weight = rows.weights ? rows.weights[i] : 1;
  if (p != p) return p;
  const float slope = model.loss.slope(p, y) * weight;
  if (slope != 0) move<Adds>(model, rows, i, eta * slope, lane);
  __syncwarp();  // the warp's next row is scored with what all of its lanes have moved
  return model.loss.value(p, y) * weight;
}

// Warps take rows in turn. `loss`: the sum of losses, each before its own step, is added to it.
template <class Adds>
__global__ void __launch_bounds__(256) linear(Linear model, Rows rows, Share share, double* loss) {
  const unsigned lane = threadIdx.x % lanes;
  double sum = 0;
  for (size_t i = share.begin + this_warp(); i < share.end; i += all_warps())
    sum += visit<Adds>(model, rows, i, model.rate.at(share.steps + (i - share.begin) + 1), lane);
  if (lane == 0) atomicAdd(loss, sum);
}

}  // namespace loosestep
