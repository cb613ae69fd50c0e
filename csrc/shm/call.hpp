// One collective of a rank, divided into steps: of each the rank publishes a piece, which may be empty.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "shared/collective_args.hpp"
#include "shm/forms.hpp"
#include "shm/layout.hpp"
#include "shm/streaming_stores.hpp"

namespace loosestep::shm {

using shared::CollectiveArgs;
using shared::Kind;

inline constexpr std::size_t min_streaming_bytes = 256 * 1024;

struct Call {
  CollectiveArgs args;
  std::size_t piece_bytes = slot_bytes;
  std::size_t opening = 0;  // steps before the data, in which ranks tell where their vectors lie
  std::size_t steps = 0;
  bool split = false;   // two steps per piece: the values, then the shares of the result
  bool direct = false;  // done in place
  int size_class = 0;   // in StoreChoices

  Call() = default;
  Call(const CollectiveArgs& what, const Forms& forms, int ranks, bool has_arena) : args(what) {
    piece_bytes = forms.piece_of(bytes());
    split = args.kind == Kind::all_reduce && ranks > 2 && bytes() > min_split_bytes;
    const bool has_vectors = args.kind != Kind::barrier && args.kind != Kind::mix;
    opening = has_arena && has_vectors && ranks > 1 && bytes() >= forms.direct_from ? 1 : 0;
    steps = opening + std::max<std::size_t>(pieces_of(piece_bytes), 1) * (split ? 2 : 1);
    size_class = StoreChoices::class_of(pieces_of(slot_bytes));
  }

  std::size_t bytes() const { return args.size * bytes_of(args.dtype); }

  void become_direct() { direct = true, steps = 2; }

  // Return whether the step's piece holds data.
  bool has_data(std::size_t step) const { return step >= opening && !direct; }
  std::size_t data_step(std::size_t step) const { return step < opening ? 0 : step - opening; }

  std::size_t bytes_of_piece(std::size_t step) const {
    const std::size_t index = data_step(step);
    return std::min(piece_bytes, bytes() - (split ? index / 2 : index) * piece_bytes);
  }

  // Return whether the call, in place, is large enough for streaming stores.
  bool may_stream() const { return args.kind == Kind::all_reduce && bytes() >= min_streaming_bytes; }

  bool same_as(const CollectiveArgs& other) const {
    return agree(other, args) && other.buf == args.buf && other.other == args.other &&
           other.weight == args.weight;
  }

 private:
  // Below this size a second synchronization costs more than reading the pieces of all ranks.
  static constexpr std::size_t min_split_bytes = 16 * 1024;

  std::size_t pieces_of(std::size_t size) const { return (bytes() + size - 1) / size; }
};

// Compare the calls of all ranks; return a message, the same on all, about the first that differs from rank
// 0.
inline std::string first_disagreement(const Layout& layout, int ranks, std::uint32_t number_of_call) {
  const CollectiveArgs first = layout.record(0).calls[number_of_call % 2].args();
  for (int rank = 1; rank < ranks; ++rank) {
    const CollectiveArgs other = layout.record(rank).calls[number_of_call % 2].args();
    if (!agree(other, first)) return disagreement(rank, other, 0, first);
  }
  return {};
}

}  // namespace loosestep::shm
