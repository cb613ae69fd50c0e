// The sums that a rank has begun (Mix): each goes on as far as all of its terms are here.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "shm/messages/inbox.hpp"
#include "shm/messages/message_memory.hpp"
#include "shm/messages/message_operation.hpp"

namespace loosestep::shm {

class Mixes {
 public:
  Mixes(const MessageMemory& memory, int rank, Mix::Fold fold) : memory_(memory), rank_(rank), fold_(fold) {}

  void add(Operation& operation) { begun_.push_back(&operation); }
  bool empty() const { return begun_.empty(); }

  // Sum what can be summed; return whether anything was.
  bool advance() {
    bool moved = false;
    for (std::size_t k = 0; k < begun_.size();) {
      Operation& operation = *begun_[k];
      while (step(*operation.mix)) moved = true;
      if (!done(*operation.mix)) {
        ++k;
        continue;
      }
      begun_.erase(begun_.begin() + static_cast<std::ptrdiff_t>(k));
      operation.finish();
      moved = true;
    }
    return moved;
  }

  // Copy what lies in pieces whose senders have none left, since the other terms may be long in coming, and
  // these senders have other messages to send.
  void make_room() {
    for (Operation* const operation : begun_)
      for (Mix::Source& source : operation->mix->sources)
        if (!source.pieces.empty() &&
            memory_.doorbell(source.rank).starved.load(std::memory_order_relaxed) > 0)
          copy_out(*operation->mix, source);
  }

 private:
  // Return whether all is summed. A sum of nothing is done when all messages have come.
  static bool done(const Mix& mix) {
    return mix.may_change && mix.awaited == 0 && mix.folded == mix.out.bytes;
  }

  // Sum one piece's worth of the terms, if it is here, and what is overwritten has left.
  bool step(Mix& mix) {
    const std::size_t n = std::min(MessageMemory::piece_bytes, mix.out.bytes - mix.folded);
    const std::size_t end = mix.folded + n;
    if (n == 0 || !mix.may_change || mix.awaited > 0 || mix.sent < end) return false;
    const auto is_here = [&](const Mix::Source& source) { return source.rank == rank_ || source.has(end); };
    if (!std::ranges::all_of(mix.sources, is_here)) return false;
    for (std::size_t k = 0; k < mix.sources.size(); ++k) mix.terms[k] = term(mix, mix.sources[k], end);
    fold_(mix.out.dtype, mix.terms.data(), mix.weights.data(), mix.terms.size(), mix.out.data + mix.folded,
          n * mix.out.elements / mix.out.bytes);
    for (Mix::Source& source : mix.sources)
      if (source.rank != rank_ && source.in_room < end) release_first(source);
    mix.folded = end;
    return true;
  }

  const void* term(const Mix& mix, const Mix::Source& source, std::size_t end) const {
    if (source.rank == rank_) return mix.out.data + mix.folded;
    if (source.in_room >= end) return source.room.get() + mix.folded;
    return memory_.piece(source.rank, source.pieces.front().first);
  }

  void release_first(Mix::Source& source) {
    memory_.release(source.rank, source.pieces.front().first);
    source.pieces.pop_front();
  }

  void copy_out(const Mix& mix, Mix::Source& source) {
    if (!source.room) source.room = uninitialized(mix.out.bytes);
    source.in_room = std::max(source.in_room, mix.folded);
    while (!source.pieces.empty()) {
      const auto [piece, bytes] = source.pieces.front();
      copy_bytes(source.room.get() + source.in_room, memory_.piece(source.rank, piece), bytes);
      source.in_room += bytes;
      release_first(source);
    }
  }

  const MessageMemory& memory_;
  int rank_;
  Mix::Fold fold_;
  std::vector<Operation*> begun_;
};

}  // namespace loosestep::shm
