// The memory accesses of one step of a collective: before the synchronization (produce) and after it
// (consume).
//
// In a sum of two ranks each reads the other's pieces. More ranks reduce a share of every piece each, publish
// it as a second piece and collect the shares, so that the bytes that a rank reads do not grow with the
// number of ranks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/stream_out.hpp"
#include "shared/reduction.hpp"
#include "shm/call.hpp"
#include "shm/layout.hpp"

namespace loosestep::shm {

using shared::CollectiveArgs;
using shared::Kind;

struct Step {
  const Layout& layout;
  int size, rank;
  const Call& call;
  std::size_t index;     // among those with data
  std::uint32_t number;  // of the piece that this rank publishes
  std::uint32_t number_of_call;
  bool streams;  // publish large pieces by streaming stores (StoreChoices)

  bool is_second_half() const { return call.split && index % 2 == 1; }
};

// Memory that every step uses.
struct Workspace {
  explicit Workspace(int size)
      : weights(static_cast<std::size_t>(size)),
        parts(static_cast<std::size_t>(size)),
        vectors(static_cast<std::size_t>(size)) {}
  std::vector<double> weights;
  std::vector<void*> parts;
  std::vector<void*> vectors;  // of all ranks, where they lie in the arena
};

// Read the weights of all ranks; return false where no rank's values change.
template <class T> bool read_weights(const Step& step, Workspace& workspace) {
  for (int rank = 0; rank < step.size; ++rank)
    workspace.weights[static_cast<std::size_t>(rank)] =
        step.layout.record(rank).calls[step.number_of_call % 2].weight;
  return step.call.args.op != shared::Op::mean || !shared::Reduction<T>::all_weights_zero(workspace.weights);
}

template <class T> class StepWork {
 public:
  StepWork(const Step& step, Workspace& workspace)
      : step_(step),
        workspace_(workspace),
        begin_((step.call.split ? step.index / 2 : step.index) * (step.call.piece_bytes / sizeof(T))),
        n_(std::min(step.call.piece_bytes / sizeof(T), step.call.args.size - begin_)),
        buf_(static_cast<T*>(step.call.args.buf)) {}

  void produce() const {
    if (step_.is_second_half()) return fold_share();
    if (step_.call.args.kind == Kind::barrier) return;
    if (step_.call.args.kind == Kind::broadcast && step_.call.args.root != step_.rank) return;
    put(piece(step_.rank), buf_ + begin_, n_);
  }

  void consume() const {
    switch (step_.call.args.kind) {
      case Kind::all_reduce:
        return reduce();
      case Kind::broadcast:
        return receive();
      case Kind::all_gather:
        return gather();
      default:
        return;
    }
  }

 private:
  void put(T* to, const T* from, std::size_t n) const {
    if (!step_.streams || n * sizeof(T) < min_streaming_bytes) return shared::copy(to, from, n);
    stream_out(to, from, n);
    fence();
  }

  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }

  T* piece(int rank, std::uint32_t back = 0) const {
    return reinterpret_cast<T*>(step_.layout.piece(rank, step_.number - back));
  }

  void reduce() const {
    if (step_.is_second_half())
      collect_shares();
    else if (!step_.call.split)
      fold_whole();
  }

  void fold_whole() const {
    for (int rank = 0; rank < step_.size; ++rank) workspace_.parts[index(rank)] = piece(rank);
    workspace_.parts[index(step_.rank)] = buf_ + begin_;  // still in this core's cache
    if (step_.size > 1 && any_weight()) fold(buf_ + begin_, 0, n_);
  }

  void fold_share() const {
    for (int rank = 0; rank < step_.size; ++rank) workspace_.parts[index(rank)] = piece(rank, 1);
    if (any_weight())
      fold(piece(step_.rank) + share_begin(step_.rank), share_begin(step_.rank), share_begin(step_.rank + 1));
  }

  void collect_shares() const {
    for (int rank = 0; rank < step_.size && any_weight(); ++rank)
      shared::copy(buf_ + begin_ + share_begin(rank), piece(rank) + share_begin(rank),
                   share_begin(rank + 1) - share_begin(rank));
  }

  // Return where a rank's share of the piece begins.
  std::size_t share_begin(int rank) const { return n_ * index(rank) / index(step_.size); }

  bool any_weight() const { return read_weights<T>(step_, workspace_); }

  // out = the reduction of parts[.][begin .. end); out may be in one of them.
  void fold(T* out, std::size_t begin, std::size_t end) const {
    const shared::Reduction<T> reduction(step_.call.args.op, workspace_.weights);
    alignas(64) T acc[shared::tile];
    for (std::size_t n; begin < end; begin += n, out += n) {
      n = std::min(shared::tile, end - begin);
      T* const sum = reduction.may_alias() ? out : acc;
      reduction(sum, workspace_.parts, begin, n);
      shared::copy(out, sum, n);
    }
  }

  void receive() const {
    if (step_.call.args.root != step_.rank) shared::copy(buf_ + begin_, piece(step_.call.args.root), n_);
  }

  void gather() const {
    T* const out = static_cast<T*>(step_.call.args.other);
    for (int rank = 0; rank < step_.size; ++rank)
      shared::copy(out + index(rank) * step_.call.args.size + begin_, piece(rank), n_);
  }

  const Step& step_;
  Workspace& workspace_;
  std::size_t begin_, n_;
  T* buf_;
};

}  // namespace loosestep::shm
