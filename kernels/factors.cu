// Matrix factorization by Hogwild on a GPU: warps take ratings in turn and update both rows of each, without
// locks. For a rating r of (u, i) with weight w and e = w (r - (b_u + b_i + p_u.q_i)), with all values from
// before the update:
//   p_u += a (e q_i - l_u p_u)    q_i += a (e p_u - l_i q_i)    b_u += a (e - l_u b_u)    b_i likewise
// A lane has elements lane, lane + 32, ... of both rows. `racy` and `exact` as in hogwild.cu.
//
// instances: factors<Racy>, factors<Exact>
#include "kernels/adds.cuh"
#include "rules/rule.hpp"

namespace loosestep {

constexpr unsigned most_rank = 128, of_lane = most_rank / lanes;

struct Rating {
  unsigned user, item;
  float value, weight;
};

// The users or the items: `count` rows of `rank` elements; `bias` may be null.
struct Side {
  float* rows;
  float* bias;
  unsigned count;
  float l2;
};

struct Factors {
  Side users, items;
  unsigned rank;
  float rate;
};

struct Row {
  float* at;
  float x[of_lane];
};

__device__ inline Row row_of(const Side& side, unsigned index, unsigned rank, unsigned lane) {
  Row row{side.rows + size_t(index) * rank, {}};
#pragma unroll
  for (unsigned k = 0; k < of_lane; ++k)
    if (lane + k * lanes < rank) row.x[k] = fresh(row.at + lane + k * lanes);
  return row;
}

__device__ inline float dot(const Row& p, const Row& q) {
  float sum = 0;
#pragma unroll
  for (unsigned k = 0; k < of_lane; ++k) sum += p.x[k] * q.x[k];
  return warp_sum(sum);
}

template <class Adds>
__device__ void move_row(const Row& row, const Row& other, float e, float l2, float rate, unsigned rank,
                         unsigned lane) {
#pragma unroll
  for (unsigned k = 0; k < of_lane; ++k)
    if (lane + k * lanes < rank)
      Adds::add(row.at + lane + k * lanes, row.x[k], rate * (e * other.x[k] - l2 * row.x[k]));
}

__device__ inline float bias_of(const Side& side, unsigned index) {
  return side.bias ? fresh(side.bias + index) : 0;
}

template <class Adds>
__device__ void move_bias(const Side& side, unsigned index, float before, float e, float rate) {
  if (side.bias) Adds::add(side.bias + index, before, rate * (e - side.l2 * before));
}

// Update both rows; return the weighted squared error before. NaN for a user or an item that does not exist.
template <class Adds> __device__ float visit(const Factors& model, const Rating& rating, unsigned lane) {
  if (rating.user >= model.users.count || rating.item >= model.items.count) return from_bits(0x7fc00000u);
  const Row p = row_of(model.users, rating.user, model.rank, lane);
  const Row q = row_of(model.items, rating.item, model.rank, lane);
  const float b_u = bias_of(model.users, rating.user), b_i = bias_of(model.items, rating.item);
  const float wrong = rating.value - ((b_u + b_i) + dot(p, q)), e = rating.weight * wrong;
  move_row<Adds>(p, q, e, model.users.l2, model.rate, model.rank, lane);
  move_row<Adds>(q, p, e, model.items.l2, model.rate, model.rank, lane);
  if (lane == 0) move_bias<Adds>(model.users, rating.user, b_u, e, model.rate);
  if (lane == 0) move_bias<Adds>(model.items, rating.item, b_i, e, model.rate);
  __syncwarp();  // the next rating must see the biases of lane 0
  return e * wrong;
}

// Visit ratings begin to end - 1; add their squared errors, each before its own update, to `squares`.
template <class Adds>
__global__ void __launch_bounds__(256)
    factors(Factors model, const Rating* ratings, size_t begin, size_t end, double* squares) {
  const unsigned lane = threadIdx.x % lanes;
  double sum = 0;
  for (size_t i = begin + this_warp(); i < end; i += all_warps()) sum += visit<Adds>(model, ratings[i], lane);
  if (lane == 0) atomicAdd(squares, sum);
}

}  // namespace loosestep
