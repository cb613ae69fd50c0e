// What one step of a collective does with memory: before the ranks meet (fill) and after (take).
//
// In a sum, two ranks take each other's whole pieces. More ranks fold a share each, put it out as a second
// piece and collect the shares: so the bytes that a rank reads do not grow with the number of ranks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/stream_out.hpp"
#include "host/layout.hpp"
#include "shared/reduction.hpp"

namespace loosestep::host {

using shared::Kind;
using shared::Post;

struct Step {
  const Layout& layout;
  int size, rank;
  const Post& post;
  std::size_t index;     // within the call
  std::uint32_t number;  // of the piece that this rank puts out
  std::uint32_t call;    // its number
  bool shares;           // two steps a piece: the values, then each rank's share of the sums
  bool streams;          // large pieces are put out by streaming stores (Stores)

  bool second() const { return shares && index % 2 == 1; }
};

inline constexpr std::size_t worth_streaming = 256 * 1024;

// Room that every step needs again.
struct Scratch {
  explicit Scratch(int size)
      : weights(static_cast<std::size_t>(size)), parts(static_cast<std::size_t>(size)) {}
  std::vector<double> weights;
  std::vector<void*> parts;
};

template <class T> class Work {
 public:
  Work(const Step& step, Scratch& scratch)
      : step_(step),
        scratch_(scratch),
        begin_((step.shares ? step.index / 2 : step.index) * (piece_bytes / sizeof(T))),
        n_(std::min(piece_bytes / sizeof(T), step.post.size - begin_)),
        buf_(static_cast<T*>(step.post.buf)) {}

  void fill() const {
    if (step_.second()) return fold_share();
    if (step_.post.kind == Kind::barrier) return;
    if (step_.post.kind == Kind::broadcast && step_.post.root != step_.rank) return;
    put(piece(step_.rank), buf_ + begin_, n_);
  }

  void take() const {
    switch (step_.post.kind) {
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
    if (!step_.streams || n * sizeof(T) < worth_streaming) return shared::copy(to, from, n);
    stream_out(to, from, n);
    settle();
  }

  static std::size_t place(int rank) { return static_cast<std::size_t>(rank); }

  T* piece(int rank, std::uint32_t back = 0) const {
    return reinterpret_cast<T*>(step_.layout.piece(rank, step_.number - back));
  }

  void reduce() const {
    if (step_.second())
      collect_shares();
    else if (!step_.shares)
      fold_whole();
  }

  void fold_whole() const {
    for (int rank = 0; rank < step_.size; ++rank) scratch_.parts[place(rank)] = piece(rank);
    scratch_.parts[place(step_.rank)] = buf_ + begin_;  // still in this core's cache
    if (step_.size > 1 && something_weighs()) fold(buf_ + begin_, 0, n_);
  }

  void fold_share() const {
    for (int rank = 0; rank < step_.size; ++rank) scratch_.parts[place(rank)] = piece(rank, 1);
    if (something_weighs())
      fold(piece(step_.rank) + edge(step_.rank), edge(step_.rank), edge(step_.rank + 1));
  }

  void collect_shares() const {
    for (int rank = 0; rank < step_.size && something_weighs(); ++rank)
      shared::copy(buf_ + begin_ + edge(rank), piece(rank) + edge(rank), edge(rank + 1) - edge(rank));
  }

  // Where a rank's share of the piece begins.
  std::size_t edge(int rank) const { return n_ * place(rank) / place(step_.size); }

  // Takes the weights from all ranks' calls. False: nothing changes.
  bool something_weighs() const {
    for (int rank = 0; rank < step_.size; ++rank)
      scratch_.weights[place(rank)] = step_.layout.lane(rank).calls[step_.call % 2].weight;
    return step_.post.op != shared::Op::mean || !shared::Reduction<T>::nothing_weighs(scratch_.weights);
  }

  // out = the reduction of parts[.][begin .. end); out may be in one of them.
  void fold(T* out, std::size_t begin, std::size_t end) const {
    const shared::Reduction<T> reduction(step_.post.op, scratch_.weights);
    alignas(64) T acc[shared::tile];
    for (std::size_t n; begin < end; begin += n, out += n) {
      n = std::min(shared::tile, end - begin);
      T* const sum = reduction.in_one_pass() ? out : acc;
      reduction(sum, scratch_.parts, begin, n);
      shared::copy(out, sum, n);
    }
  }

  void receive() const {
    if (step_.post.root != step_.rank) shared::copy(buf_ + begin_, piece(step_.post.root), n_);
  }

  void gather() const {
    T* const out = static_cast<T*>(step_.post.other);
    for (int rank = 0; rank < step_.size; ++rank)
      shared::copy(out + place(rank) * step_.post.size + begin_, piece(rank), n_);
  }

  const Step& step_;
  Scratch& scratch_;
  std::size_t begin_, n_;
  T* buf_;
};

}  // namespace loosestep::host
