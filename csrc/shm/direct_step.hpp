// A collective in place: every rank reads the vectors of all where they lie, and writes the results there.
//
// In a sum each rank computes its share of the elements and writes it into the vectors of all ranks, so that
// no element is read or written twice. Between the call of the last rank and the return of the first, every
// vector belongs to all.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cpu/stream_out.hpp"
#include "shared/reduction.hpp"
#include "shm/arena.hpp"
#include "shm/collective_step.hpp"

namespace loosestep::shm {

using shared::CollectiveArgs;
using shared::Kind;

// Find the vectors that others read; return whether all of them lie in the arena.
inline bool find_vectors(const Step& step, const Arena& arena, Workspace& workspace) {
  const CollectiveArgs& args = step.call.args;
  for (int rank = 0; rank < step.size; ++rank) {
    const std::uint64_t place = step.layout.record(rank).places[step.number_of_call % 2];
    if (place == 0 && (args.kind != Kind::broadcast || rank == args.root)) return false;
    workspace.vectors[static_cast<std::size_t>(rank)] =
        place == 0 ? nullptr : arena.at(rank, static_cast<std::size_t>(place - 1));
  }
  return true;
}

// a = b = f(a, b), in one pass.
template <class T, class F> void fold_into_both(T* __restrict a, T* __restrict b, std::size_t n, F f) {
  for (std::size_t i = 0; i < n; ++i) {
    const T folded = f(a[i], b[i]);
    a[i] = folded;
    b[i] = folded;
  }
}

template <class T> void fold_into_both(shared::Op op, T* a, T* b, std::size_t n) {
  switch (op) {  // as in shared/reduce_loops.hpp
    case shared::Op::sum:
      return fold_into_both(a, b, n, [](T x, T y) { return x + y; });
    case shared::Op::mean:
      return fold_into_both(a, b, n, [](T x, T y) { return (x + y) * T(0.5); });
    case shared::Op::max:
      return fold_into_both(a, b, n, [](T x, T y) { return (x > y || x != x) ? x : y; });
    default:
      return fold_into_both(a, b, n, [](T x, T y) { return (x < y || x != x) ? x : y; });
  }
}

template <class T> class DirectWork {
 public:
  // vectors: of all ranks, in rank order. streams: large results are written past the caches.
  DirectWork(const CollectiveArgs& args, int rank, std::span<void* const> vectors, bool streams)
      : args_(args), rank_(static_cast<std::size_t>(rank)), vectors_(vectors), streams_(streams) {}

  // Do this rank's part; ask `stopped` between pieces, and return false where it says so.
  template <class Stopped> bool run(std::span<const double> weights, Stopped stopped) const {
    const shared::Reduction<T> reduction(args_.op, weights);
    const bool sums = args_.kind == Kind::all_reduce;
    const std::size_t begin = sums ? share_begin(rank_) : 0, end = sums ? share_begin(rank_ + 1) : args_.size;
    for (std::size_t from = begin; from < end; from += piece) {
      if (stopped()) return false;
      const std::size_t n = std::min(piece, end - from);
      if (sums)
        reduce(reduction, from, n);
      else
        copy(from, n);
    }
    if (streams_) fence();
    return true;
  }

 private:
  static constexpr std::size_t piece = (std::size_t(1) << 20) / sizeof(T);
  static constexpr std::size_t line = 64 / sizeof(T);

  T* vector(std::size_t rank) const { return static_cast<T*>(vectors_[rank]); }

  // Return where a rank's share of the elements begins: at the beginning of a cache line where vectors do.
  std::size_t share_begin(std::size_t rank) const {
    const std::size_t ranks = vectors_.size();
    return rank == ranks ? args_.size : args_.size / line * rank / ranks * line;
  }

  void reduce(const shared::Reduction<T>& reduction, std::size_t begin, std::size_t n) const {
    if (!streams_ && reduction.may_alias())
      return fold_into_both(args_.op, vector(0) + begin, vector(1) + begin, n);
    alignas(64) T sum[shared::tile];
    for (std::size_t end = begin + n, m; begin < end; begin += m) {
      m = std::min(shared::tile, end - begin);
      reduction(sum, vectors_, begin, m);
      for (std::size_t rank = 0; rank < vectors_.size(); ++rank)
        streams_ ? stream_out(vector(rank) + begin, sum, m) : shared::copy(vector(rank) + begin, sum, m);
    }
  }

  void copy(std::size_t begin, std::size_t n) const {
    if (args_.kind == Kind::broadcast) {
      const auto root = static_cast<std::size_t>(args_.root);
      return root == rank_ ? void()
                           : shared::copy(static_cast<T*>(args_.buf) + begin, vector(root) + begin, n);
    }
    T* const out = static_cast<T*>(args_.other) + begin;
    for (std::size_t rank = 0; rank < vectors_.size(); ++rank)
      shared::copy(out + rank * args_.size, vector(rank) + begin, n);
  }

  const CollectiveArgs& args_;
  std::size_t rank_;
  std::span<void* const> vectors_;
  bool streams_;
};

}  // namespace loosestep::shm
