// A collective in place: every rank reads the vectors of all where they lie, and writes the results there.
//
// In a sum each rank computes its share of the elements and writes it into the vectors of all ranks, so that
// no element is read or written twice. Between the call of the last rank and the return of the first, every
// vector belongs to all.
// A share of a sum consists of pieces: a rank that waits in vain for another one, which may have lost its
// core, does pieces of its share.
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

// The work of one call in place, whose vectors have been found.
template <class T> class DirectWork {
 public:
  DirectWork(const Step& step, Workspace& workspace)
      : step_(step),
        args_(step.call.args),
        workspace_(workspace),
        vectors_(workspace.vectors),
        is_sum_(args_.kind == Kind::all_reduce && read_weights<T>(step, workspace)) {}

  // Do this rank's part and publish it; return false where `stopped` said so in the middle.
  template <class Stopped> bool run(Stopped stopped) const {
    if (pieces_of(step_.rank) == 0) {
      if (args_.kind != Kind::all_reduce) copy_all();
      step_.layout.record(step_.rank).published.advance();
    }
    while (!stopped())
      if (!work_on_share(step_.rank)) return true;
    return false;
  }

  // Do one piece of a rank's share of a sum; return whether one was left. Who does the last one publishes for
  // the rank that all of its share is done.
  bool work_on_share(int rank) const {
    const std::size_t pieces = pieces_of(rank);
    RankRecord& record = step_.layout.record(rank);
    std::uint64_t claimed = record.share.claimed.load(std::memory_order_acquire);
    do {
      if (claimed >> 32 != step_.number_of_call || static_cast<std::uint32_t>(claimed) >= pieces)
        return false;
    } while (!record.share.claimed.compare_exchange_weak(claimed, claimed + 1, std::memory_order_acq_rel));
    const std::size_t from = share_begin(rank) + static_cast<std::uint32_t>(claimed) * piece;
    reduce(from, std::min(piece, share_begin(rank + 1) - from));
    if (step_.streams) fence();
    if (record.share.done.fetch_add(1, std::memory_order_acq_rel) + 1 == pieces) record.published.advance();
    return true;
  }

 private:
  static constexpr std::size_t piece = (std::size_t(256) << 10) / sizeof(T);  // elements
  static constexpr std::size_t line = 64 / sizeof(T);

  T* vector(int rank) const { return static_cast<T*>(vectors_[static_cast<std::size_t>(rank)]); }

  // Return of how many pieces a rank's share consists.
  std::size_t pieces_of(int rank) const {
    return is_sum_ ? (share_begin(rank + 1) - share_begin(rank) + piece - 1) / piece : 0;
  }

  // Return where a rank's share of the elements begins: at the beginning of a cache line where vectors do.
  std::size_t share_begin(int rank) const {
    const auto ranks = static_cast<std::size_t>(step_.size), index = static_cast<std::size_t>(rank);
    return rank == step_.size ? args_.size : args_.size / line * index / ranks * line;
  }

  void reduce(std::size_t begin, std::size_t n) const {
    const shared::Reduction<T> reduction(args_.op, workspace_.weights);
    if (!step_.streams && reduction.may_alias())
      return fold_into_both(args_.op, vector(0) + begin, vector(1) + begin, n);
    alignas(64) T sum[shared::tile];
    for (std::size_t end = begin + n, m; begin < end; begin += m) {
      m = std::min(shared::tile, end - begin);
      reduction(sum, vectors_, begin, m);
      for (int rank = 0; rank < step_.size; ++rank) {
        T* const out = vector(rank) + begin;
        step_.streams ? stream_out(out, sum, m) : shared::copy(out, sum, m);
      }
    }
  }

  // Copy what others have to where this rank wants it.
  void copy_all() const {
    if (args_.kind == Kind::broadcast) {
      if (args_.root != step_.rank) shared::copy(static_cast<T*>(args_.buf), vector(args_.root), args_.size);
      return;
    }
    for (int rank = 0; rank < step_.size; ++rank)
      shared::copy(static_cast<T*>(args_.other) + static_cast<std::size_t>(rank) * args_.size, vector(rank),
                   args_.size);
  }

  const Step& step_;
  const CollectiveArgs& args_;
  const Workspace& workspace_;
  std::span<void* const> vectors_;
  bool is_sum_;  // and not one in which nobody has a weight
};

}  // namespace loosestep::shm
