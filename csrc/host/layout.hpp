// What lies where in the memory that the ranks of a host share: a head, then a lane and some rooms a rank.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

#include "host/note.hpp"
#include "host/waiting.hpp"
#include "shared/post.hpp"

namespace loosestep::host {

// Small pieces cost a meeting each, large ones leave the cache (measured: docs/results/collectives.md).
inline constexpr std::size_t piece_bytes = 512 * 1024;

// Rooms of a rank. With 2 all march in step. With 2 a + 2 a rank may be `a` pieces ahead of what it has taken
// (see Ranks): two ranks, whose sums have one meeting a piece, do not wait for each other's processor at
// every one.
inline std::uint32_t rooms_of(int size) { return size == 2 ? 8 : 2; }

// What a rank asks for, small enough to travel on the line of its counter.
struct Call {
  std::uint64_t size = 0;
  double weight = 1;
  std::uint8_t kind = 0, op = 0, dtype = 0;
  std::int32_t root = 0;

  static Call of(const shared::Post& post) {
    const auto byte = [](auto word) { return static_cast<std::uint8_t>(word); };
    return {post.size, post.weight, byte(post.kind), byte(post.op), byte(post.dtype), post.root};
  }

  // Without the buffers, which are that rank's alone.
  shared::Post post() const {
    shared::Post post;
    post.kind = static_cast<shared::Kind>(kind), post.op = static_cast<shared::Op>(op);
    post.dtype = static_cast<shared::Dtype>(dtype), post.root = root, post.size = size;
    return post;
  }
};

struct Lane {
  // The pieces that this rank has put out, empty ones where it has nothing to say; its last two calls, by
  // their number; how many it has begun; and, of rank 0, which stores all ranks use now (Stores).
  alignas(128) Counter published;
  std::array<Call, 2> calls{};
  std::uint32_t begun = 0;
  std::atomic<std::uint8_t> streams{255};
  // The last sign of life, in nanoseconds of CLOCK_MONOTONIC; 0: this rank never came.
  alignas(128) std::atomic<std::int64_t> beaten{0};
  std::atomic<std::uint64_t> beats{0};
  alignas(64) Note note;
};
static_assert(sizeof(Counter) + 2 * sizeof(Call) + 8 <= 64, "one line from core to core tells all");

struct Head {
  static constexpr std::uint64_t ready = 0x6c6f6f7365000003;  // changes with the layout

  alignas(64) std::atomic<std::uint64_t> mark{0};  // written last
  std::uint64_t ranks = 0, piece = 0;
  alignas(64) std::atomic<bool> aborted{false};
};

class Layout {
 public:
  static std::size_t bytes(int size) { return data(size) + rooms_of(size) * place(size) * piece_bytes; }

  // The creator writes the head; the others find it as they need it, or are told why not.
  Layout(std::byte* memory, int size, bool create) : memory_(memory), size_(size) {
    if (create)
      make();
    else
      check();
  }

  Head& head() const { return *std::launder(reinterpret_cast<Head*>(memory_)); }
  Lane& lane(int rank) const {
    return *std::launder(reinterpret_cast<Lane*>(memory_ + lanes + place(rank) * sizeof(Lane)));
  }
  std::byte* piece(int rank, std::uint32_t number) const {
    const std::size_t rooms = rooms_of(size_);
    return memory_ + data(size_) + (rooms * place(rank) + number % rooms) * piece_bytes;
  }

 private:
  static constexpr std::size_t page = 4096, lanes = 256;
  static_assert(sizeof(Head) <= lanes);

  static std::size_t place(int rank) { return static_cast<std::size_t>(rank); }
  static std::size_t data(int size) { return (lanes + place(size) * sizeof(Lane) + page - 1) / page * page; }

  void make() {
    Head* const head = new (memory_) Head;
    head->ranks = place(size_), head->piece = piece_bytes;
    for (int rank = 0; rank < size_; ++rank) new (memory_ + lanes + place(rank) * sizeof(Lane)) Lane;
    head->mark.store(Head::ready, std::memory_order_release);
  }

  void check() const {
    if (head().mark.load(std::memory_order_acquire) != Head::ready || head().piece != piece_bytes)
      throw std::invalid_argument("this shared memory was not made by Host(create=True) of the same version");
    if (head().ranks != place(size_))
      throw std::invalid_argument("this shared memory is for " + std::to_string(head().ranks) +
                                  " ranks, wanted " + std::to_string(size_));
  }

  std::byte* memory_;
  int size_;
};

}  // namespace loosestep::host
