// Wire formats, with the words of csrc/codecs: the same rules, and the same order of sums. Where an element
// is infinite or NaN, `bad` becomes 1, and what was written means nothing.
//
// instances: encode_blocks<HalfBlocks, float>, encode_blocks<HalfBlocks, double>
// instances: encode_blocks<E4m3Blocks, float>, encode_blocks<E4m3Blocks, double>
// instances: encode_blocks<E5m2Blocks, float>, encode_blocks<E5m2Blocks, double>
// instances: encode_blocks<OctaveBlocks, float>, encode_blocks<OctaveBlocks, double>
// instances: decode_blocks<HalfBlocks, float>, decode_blocks<HalfBlocks, double>
// instances: decode_blocks<E4m3Blocks, float>, decode_blocks<E4m3Blocks, double>
// instances: decode_blocks<E5m2Blocks, float>, decode_blocks<E5m2Blocks, double>
// instances: decode_blocks<OctaveBlocks, float>, decode_blocks<OctaveBlocks, double>
// instances: encode_bfloat16<float>, encode_bfloat16<double>, decode_bfloat16<float>, decode_bfloat16<double>
// instances: encode_signs<float>, encode_signs<double>, mean_size, decode_signs<float>, decode_signs<double>
// instances: encode_levels<float>, encode_levels<double>, decode_levels<float>, decode_levels<double>
#include "kernels/sums.cuh"
#include "rules/blocks.hpp"
#include "rules/dither.hpp"
#include "rules/philox.hpp"

namespace loosestep {

constexpr unsigned warps = 8;  // of a thread block

__device__ inline size_t this_warp() { return size_t(blockIdx.x) * warps + threadIdx.x / lanes; }
__device__ inline size_t all_warps() { return size_t(gridDim.x) * warps; }
__device__ inline size_t this_thread() { return size_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline size_t all_threads() { return size_t(gridDim.x) * blockDim.x; }
__device__ inline size_t less(size_t a, size_t b) { return a < b ? a : b; }

// Return the largest over the lanes of a warp, in every lane.
template <class I> __device__ I largest_of_lanes(I most) {
#pragma unroll
  for (unsigned width = lanes / 2; width > 0; width /= 2) {
    const I other = __shfl_xor_sync(~0u, most, int(width));
    most = other > most ? other : most;
  }
  return most;
}

// Return the largest size of n values, in every lane; note where one is not finite.
template <class T> __device__ Integer<T> largest_size(const T* x, size_t n, unsigned* bad) {
  Integer<T> most = 0;
  for (size_t i = lane(); i < n; i += lanes) most = size_of(x[i]) > most ? size_of(x[i]) : most;
  most = largest_of_lanes(most);
  if (most >= infinite_size<T> && lane() == 0) *bad = 1;
  return most;
}

// --- blocks that share an exponent
// -----------------------------------------------------------------------------

// A byte or two of codes: two codes of 4 bits, the first in the lower half, or one code.
template <class F> constexpr unsigned codes_of_word = F::bits == 4 ? 2 : 1;
template <class F, bool wide = F::bits == 16> struct WordOf {
  using type = unsigned char;
};
template <class F> struct WordOf<F, true> {
  using type = unsigned short;
};
template <class F> using CodeWord = typename WordOf<F>::type;

// A warp rounds a block at a time.
template <class F, class T>
__global__ void __launch_bounds__(256)
    encode_blocks(const T* x, size_t count, short* exponents, CodeWord<F>* words, unsigned* bad) {
  constexpr size_t each = F::block, codes = codes_of_word<F>;
  for (size_t b = this_warp(); b * each < count; b += all_warps()) {
    const size_t at = b * each, n = less(each, count - at);
    const int e = F::template exponent<T>(largest_size(x + at, n, bad));
    if (lane() == 0) exponents[b] = static_cast<short>(e);
    for (size_t w = lane(); w * codes < n; w += lanes) {
      unsigned made = 0;
      for (size_t k = 0; k < codes && w * codes + k < n; ++k)
        made |= F::code(x[at + w * codes + k], e) << (F::bits * k);
      words[at / codes + w] = static_cast<CodeWord<F>>(made);
    }
  }
}

template <class F, class T>
__global__ void __launch_bounds__(256)
    decode_blocks(const short* exponents, const CodeWord<F>* words, T* out, size_t count) {
  constexpr size_t codes = codes_of_word<F>;
  for (size_t i = this_thread(); i < count; i += all_threads()) {
    const unsigned code = words[i / codes] >> (F::bits * (i % codes)) & ((1u << F::bits) - 1);
    out[i] = F::template value<T>(code, exponents[i / F::block]);
  }
}

template <class T>
__global__ void __launch_bounds__(256)
    encode_bfloat16(const T* x, size_t count, unsigned short* codes, unsigned* bad) {
  for (size_t i = this_thread(); i < count; i += all_threads()) {
    if (size_of(x[i]) >= infinite_size<T>) *bad = 1;
    codes[i] = static_cast<unsigned short>(Bfloat16::code(narrowed(x[i])));
  }
}

template <class T>
__global__ void __launch_bounds__(256) decode_bfloat16(const unsigned short* codes, T* out, size_t count) {
  for (size_t i = this_thread(); i < count; i += all_threads()) out[i] = T(Bfloat16::value(codes[i]));
}

// --- signs
// -----------------------------------------------------------------------------------------------------

// A warp writes the signs of 4096 values, a word of 32 at a time, and the sum of their sizes.
template <class T>
__global__ void __launch_bounds__(256)
    encode_signs(const T* x, size_t count, unsigned char* signs, double* sums, unsigned* bad) {
  for (size_t b = this_warp(); b * block < count; b += all_warps()) {
    const size_t at = b * block, n = less(block, count - at);
    double sum = 0;
    for (size_t i = 0; i < n; i += lanes) {
      const bool inside = i + lane() < n;
      const T mine = inside ? x[at + i + lane()] : T(0);
      if (size_of(mine) >= infinite_size<T>) *bad = 1;
      if (inside) sum += double(from_bits(Word<T>(size_of(mine))));
      const unsigned word = __ballot_sync(~0u, int(bits(mine) >> (8 * sizeof(T) - 1)));
      if (lane() < (less(lanes, n - i) + 7) / 8)
        signs[(at + i) / 8 + lane()] = static_cast<unsigned char>(word >> (8 * lane()));
    }
    sum = sum_of_lanes(sum);
    if (lane() == 0) sums[b] = sum;
  }
}

__global__ void __launch_bounds__(32) mean_size(const double* sum, size_t count, float* size) {
  if (threadIdx.x == 0) *size = count ? narrowed(*sum / double(count)) : 0;
}

template <class T>
__global__ void __launch_bounds__(256)
    decode_signs(const float* size, const unsigned char* signs, T* out, size_t count) {
  const Word<T> made = bits(T(*size));
  for (size_t i = this_thread(); i < count; i += all_threads())
    out[i] = from_bits(made | Word<T>(signs[i / 8] >> (i % 8) & 1) << (8 * sizeof(T) - 1));
}

// --- levels at random
// ------------------------------------------------------------------------------------------

// As `Dither` of csrc/codecs/table.hpp.
struct Levels {
  unsigned long long key;
  int levels, bits;
  size_t bucket;
};

constexpr unsigned at_once = 256;  // values that take the words of 64 counters

// Return the length of a vector, summed in blocks, the same in every lane.
template <class T> __device__ float length_of(const T* x, size_t n) {
  double sum = 0;
  for (size_t at = 0; at < n; at += block)
    sum += block_sum(less(block, n - at), [=](size_t i) { return double(x[at + i]) * double(x[at + i]); });
  return narrowed(root(__shfl_sync(~0u, sum, 0)));
}

// Each lane takes two counters, and of each the four values that its words are for.
template <class T>
__device__ void round_some(const T* x, size_t n, T scale, const Levels& how, unsigned long long first,
                           unsigned char* made) {
  const Key key{static_cast<unsigned>(how.key), static_cast<unsigned>(how.key >> 32)};
  for (unsigned counter = lane(); counter < at_once / 4; counter += lanes) {
    const unsigned long long place = first + counter;
    const Words four =
        philox<7>({static_cast<unsigned>(place), static_cast<unsigned>(place >> 32), 0, 0}, key);
    const unsigned words[4] = {four.a, four.b, four.c, four.d};
    for (unsigned k = 0; k < 4; ++k) {
      const unsigned i = k * (at_once / 4) + counter;
      if (i < n)
        made[i] = static_cast<unsigned char>(signed_level(x[i], scale, how.levels, words[k]) + how.levels);
    }
  }
}

// Each lane packs eight numbers.
__device__ inline void pack_some(const unsigned char* made, size_t n, int bits, unsigned char* to) {
  const size_t mine = 8 * lane();
  if (mine >= n) return;
  unsigned long long packed = 0;
  const size_t many = less(8, n - mine), bytes = (many * unsigned(bits) + 7) / 8;
  for (size_t k = 0; k < many; ++k)
    packed |= static_cast<unsigned long long>(made[mine + k]) << (unsigned(bits) * k);
  for (size_t k = 0; k < bytes; ++k)
    to[lane() * unsigned(bits) + k] = static_cast<unsigned char>(packed >> (8 * k));
}

// A warp rounds a bucket at a time.
template <class T>
__global__ void __launch_bounds__(256)
    encode_levels(const T* x, size_t count, Levels how, float* lengths, unsigned char* codes, unsigned* bad) {
  __shared__ unsigned char all[warps][at_once];
  unsigned char* const made = all[threadIdx.x / lanes];
  for (size_t b = this_warp(); b * how.bucket < count; b += all_warps()) {
    const size_t at = b * how.bucket, n = less(how.bucket, count - at);
    largest_size(x + at, n, bad);
    const float length = length_of(x + at, n);
    if (lane() == 0) lengths[b] = length;
    const T scale = limited(length > 0 ? T(how.levels) / T(length) : T(0));
    for (size_t turn = 0; turn * at_once < n; ++turn) {
      const size_t i = turn * at_once, some = less(at_once, n - i);
      round_some(x + at + i, some, scale, how,
                 (b * ((how.bucket + at_once - 1) / at_once) + turn) * (at_once / 4), made);
      __syncwarp();
      pack_some(made, some, how.bits, codes + (at + i) * unsigned(how.bits) / 8);
      __syncwarp();
    }
  }
}

template <class T>
__global__ void __launch_bounds__(256)
    decode_levels(const float* lengths, const unsigned char* codes, Levels how, T* out, size_t count) {
  for (size_t i = this_thread(); i < count; i += all_threads()) {
    const size_t place = i * unsigned(how.bits);
    const unsigned past = unsigned(place % 8);
    unsigned level = codes[place / 8];
    if (past + unsigned(how.bits) > 8) level |= unsigned(codes[place / 8 + 1]) << 8;
    level = level >> past & ((1u << how.bits) - 1);
    const T unit = T(lengths[i / how.bucket]) / T(how.levels);
    out[i] = limited(T(int(level) - how.levels) * unit);
  }
}

}  // namespace loosestep
