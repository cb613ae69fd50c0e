// The k elements of largest
// x
// in the order of their indices; the first ones of equal size. The same set in every run.
//
// The k-th largest
// x
// is found eight bits of its float pattern at a time, which orders absolute values as numbers: four times
// `count_digit` and `choose_digit`. Then thread blocks count their elements of the result (`count_chosen`),
// prefix sums give the position where each begins (`begin_at`), and `take_chosen` writes.
//
// instances: count_digit, choose_digit, count_chosen, begin_at, take_chosen
#include "rules/rule.hpp"

namespace loosestep {

using Large = unsigned long long;  // the type of atomic additions
constexpr unsigned lanes = 32, digits = 256, threads = 1024;

// What is known of the k-th largest
// x
// : its digits above `shift`, and how many elements with these digits are wanted.
struct Found {
  unsigned prefix;
  size_t wanted;
};

__device__ inline unsigned size_bits(float x) { return bits(x) & 0x7FFFFFFFu; }
__device__ inline bool same_above(unsigned x, unsigned prefix, unsigned shift) {
  return shift == 24 || x >> (shift + 8) == prefix >> (shift + 8);
}

// Count, by their digit at `shift`, the elements that have the known digits.
__global__ void __launch_bounds__(threads)
    count_digit(const float* x, size_t n, const Found* found, unsigned shift, Large* counts) {
  __shared__ unsigned mine[digits];
  if (threadIdx.x < digits) mine[threadIdx.x] = 0;
  __syncthreads();
  const size_t stride = size_t(gridDim.x) * blockDim.x;
  for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) {
    const unsigned size = size_bits(x[i]);
    if (same_above(size, found->prefix, shift)) atomicAdd(mine + (size >> shift) % digits, 1u);
  }
  __syncthreads();
  if (threadIdx.x < digits && mine[threadIdx.x]) atomicAdd(counts + threadIdx.x, Large(mine[threadIdx.x]));
}

// Choose the next digit and reset the counts. One thread block.
__global__ void __launch_bounds__(digits) choose_digit(Found* found, unsigned shift, Large* counts) {
  __shared__ Large mine[digits];
  mine[threadIdx.x] = counts[threadIdx.x];
  counts[threadIdx.x] = 0;
  __syncthreads();
  if (threadIdx.x > 0) return;
  Large left = found->wanted;
  unsigned digit = digits - 1;
  for (; digit > 0 && mine[digit] < left; --digit) left -= mine[digit];
  *found = {found->prefix | digit << shift, left};
}

struct Chosen {
  size_t above, equal;  // elements larger than the k-th, and of its size
};

__device__ inline unsigned before_me(unsigned votes) {
  return __popc(votes & ((1u << threadIdx.x % lanes) - 1));
}

// The votes of a thread block: before this thread's, and all.
struct Votes {
  unsigned before, all;
};

__device__ inline Votes counted(bool vote, unsigned* of_warps) {
  const unsigned votes = __ballot_sync(~0u, vote), warp = threadIdx.x / lanes;
  __syncthreads();  // the previous counts have been read
  if (threadIdx.x % lanes == 0) of_warps[warp] = __popc(votes);
  __syncthreads();
  Votes found{before_me(votes), 0};
  for (unsigned w = 0; w < threads / lanes; ++w) {
    if (w < warp) found.before += of_warps[w];
    found.all += of_warps[w];
  }
  return found;
}

// Count the chosen of elements 1024 b to 1024 b + 1023, in thread block b.
__global__ void __launch_bounds__(threads)
    count_chosen(const float* x, size_t n, const Found* found, Chosen* chosen) {
  __shared__ unsigned of_warps[threads / lanes];
  const size_t i = size_t(blockIdx.x) * threads + threadIdx.x;
  const unsigned size = i < n ? size_bits(x[i]) : 0;
  const unsigned above = counted(i < n && size > found->prefix, of_warps).all;
  const unsigned equal = counted(i < n && size == found->prefix, of_warps).all;
  if (threadIdx.x == 0) chosen[blockIdx.x] = {above, equal};
}

__device__ inline Chosen sum_of(const Chosen& a, const Chosen& b) {
  return {a.above + b.above, a.equal + b.equal};
}

// Return where the thread's part of `many` begins.
__device__ inline size_t share(size_t many, unsigned thread) { return many * thread / threads; }

// Replace the counts of each thread block by the sum of those before it. One thread block.
__global__ void __launch_bounds__(threads) begin_at(Chosen* chosen, size_t blocks) {
  __shared__ Chosen sums[threads];
  const size_t begin = share(blocks, threadIdx.x), end = share(blocks, threadIdx.x + 1);
  Chosen sum{0, 0};
  for (size_t b = begin; b < end; ++b) sum = sum_of(sum, chosen[b]);
  sums[threadIdx.x] = sum;
  __syncthreads();
  sum = {0, 0};
  for (unsigned before = 0; before < threadIdx.x; ++before) sum = sum_of(sum, sums[before]);
  for (size_t b = begin; b < end; ++b) {
    const Chosen mine = chosen[b];
    chosen[b] = sum;
    sum = sum_of(sum, mine);
  }
}

// Write the indices and values of the chosen. With `taken` 1 they become 0 in x, and what is left stays for
// the next message.
__global__ void __launch_bounds__(threads)
    take_chosen(float* x, size_t n, const Found* found, const Chosen* chosen, unsigned taken, size_t* places,
                float* values) {
  __shared__ unsigned of_warps[threads / lanes];
  const size_t i = size_t(blockIdx.x) * threads + threadIdx.x;
  const Chosen base = chosen[blockIdx.x];
  const unsigned size = i < n ? size_bits(x[i]) : 0;
  const bool above = i < n && size > found->prefix, equal = i < n && size == found->prefix;
  const size_t larger = base.above + counted(above, of_warps).before;
  const size_t like = base.equal + counted(equal, of_warps).before;
  if (!above && !(equal && like < found->wanted)) return;
  const size_t at = larger + (like < found->wanted ? like : found->wanted);
  places[at] = i, values[at] = x[i];
  if (taken) x[i] = 0;
}

}  // namespace loosestep
