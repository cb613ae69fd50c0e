// The memory through which the processes of one host send each other messages: a ring of slots for every
// ordered pair of ranks, and for every sender a pool of pieces, which hold parts of long payloads.
//
// A slot holds the header of a message and, if it is short, its payload. Its stamp is written last, so who
// polls it needs one cache line for both. A piece is written once for all ranks that it is sent to, and is
// free again when each has released it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

#include "shm/futex_counter.hpp"
#include "shm/messages/process_memory.hpp"

namespace loosestep::shm {

using Stamp = std::atomic<std::uint64_t>;
static_assert(Stamp::is_always_lock_free);

enum class SlotKind : std::uint8_t {
  whole,   // a message with its payload
  start,   // a message whose payload follows in pieces
  piece,   // the next part of a payload
  pull,    // a message whose payload the receiver copies from the sender's memory
  pulled,  // it has done so: the sender may change its memory
};

struct alignas(64) Slot {
  Stamp stamp{0};  // 1 + the number of the slot's use; written last
  std::uint64_t tag = 0;
  std::uint64_t message = 0;   // to which a piece belongs
  std::uint64_t elements = 0;  // of the whole message
  std::uint64_t bytes = 0;     // of the payload, or of the piece
  double note = 0;
  std::uint64_t address = 0;  // of a payload that is to be pulled, in the sender
  std::uint32_t piece = 0;    // which one of the sender's
  SlotKind kind = SlotKind::whole;
  std::uint8_t dtype = 0;  // numpy's type number
};
static_assert(sizeof(Slot) == 64);

struct Ring {
  static constexpr std::uint64_t slots = 16;

  alignas(128) Stamp published{0};  // slots that the sender has written: read before a receiver sleeps
  alignas(128) Stamp consumed{0};   // slots that the receiver has read
  Word may_pull{0};                 // the receiver can read the sender's memory
  alignas(128) Slot slot[slots];
};

// Wakes the thread of a rank that waits for messages or for room. No wake-up is lost: who changes something
// stores it before it looks for sleepers, who sleeps counts itself before it looks for changes, all
// sequentially consistent.
struct alignas(128) Doorbell {
  Word rung{0};
  Word sleepers{0};
  Word starved{0};  // this rank has found no free piece: those that hold some should release them

  void ring_if_asleep() {
    if (sleepers.load(std::memory_order_seq_cst) == 0) return;
    rung.fetch_add(1, std::memory_order_seq_cst);
    futex(rung, FUTEX_WAKE, INT32_MAX, nullptr);
  }

  // Sleep until it is rung for the time after `seen`, or the deadline.
  void sleep(std::uint32_t seen, Clock::time_point deadline) {
    using std::chrono::nanoseconds;
    const auto left = std::chrono::duration_cast<nanoseconds>(deadline - Clock::now());
    const timespec timeout{0, std::clamp(left, nanoseconds(0), longest_sleep).count()};
    futex(rung, FUTEX_WAIT, seen, &timeout);
  }
};

struct alignas(64) PieceState {
  Word readers{0};  // that have not released it
};

class MessageMemory {
 public:
  static constexpr std::size_t piece_bytes = 512 * 1024;

  // With many ranks there are many rings: their slots are smaller.
  static std::size_t short_bytes(int size) { return size <= 8 ? 4096 : size <= 32 ? 1024 : 256; }
  static std::uint32_t pieces(int size) { return size == 2 ? 8 : size <= 8 ? 4 : 2; }
  static std::size_t bytes(int size) { return data(size) + index(size) * pieces(size) * piece_bytes; }

  // The creator lays the memory out; the others check it.
  MessageMemory(std::byte* memory, int size, bool create) : memory_(memory), size_(size) {
    if (create)
      make();
    else
      check();
  }

  int size() const { return size_; }

  Doorbell& doorbell(int rank) const { return at<Doorbell>(doorbells + index(rank) * sizeof(Doorbell)); }
  // Return how many cores all ranks have together, each of which may be bound to one; 0 before all have come.
  int cores() const {
    cpu_set_t all{};
    for (int rank = 0; rank < size_; ++rank) {
      if (process(rank).here.load(std::memory_order_acquire) == 0) return 0;
      CPU_OR(&all, &all, &process(rank).cores);
    }
    return CPU_COUNT(&all);
  }
  Process& process(int rank) const { return at<Process>(processes(size_) + index(rank) * sizeof(Process)); }
  PieceState& state(int rank, std::uint32_t piece) const {
    return at<PieceState>(states(size_) + (index(rank) * pieces(size_) + piece) * sizeof(PieceState));
  }
  Ring& ring(int from, int to) const { return at<Ring>(rings(size_) + pair(from, to) * sizeof(Ring)); }
  std::byte* payload(int from, int to, std::uint64_t number) const {
    return memory_ + payloads(size_) +
           (pair(from, to) * Ring::slots + number % Ring::slots) * short_bytes(size_);
  }
  // Tell a rank that one of its pieces is read no more by one of those that it was sent to.
  void release(int rank, std::uint32_t piece) const {
    if (state(rank, piece).readers.fetch_sub(1, std::memory_order_seq_cst) == 1)
      doorbell(rank).ring_if_asleep();
  }
  std::byte* piece(int rank, std::uint32_t piece) const {
    return memory_ + data(size_) + (index(rank) * pieces(size_) + piece) * piece_bytes;
  }

 private:
  struct Header {
    static constexpr std::uint64_t ready = 0x6c6f6f7365000101;  // changes with the layout

    alignas(64) Stamp magic{0};  // written last
    std::uint64_t ranks = 0;
  };
  static constexpr std::size_t page = 4096, doorbells = 128;
  static_assert(sizeof(Header) <= doorbells);

  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }
  static std::size_t processes(int size) { return doorbells + index(size) * sizeof(Doorbell); }
  static std::size_t states(int size) { return processes(size) + index(size) * sizeof(Process); }
  static std::size_t rings(int size) {
    const std::size_t end = states(size) + index(size) * pieces(size) * sizeof(PieceState);
    return (end + alignof(Ring) - 1) / alignof(Ring) * alignof(Ring);
  }
  static std::size_t payloads(int size) { return rings(size) + index(size) * index(size) * sizeof(Ring); }
  static std::size_t data(int size) {
    const std::size_t end = payloads(size) + index(size) * index(size) * Ring::slots * short_bytes(size);
    return (end + page - 1) / page * page;
  }

  std::size_t pair(int from, int to) const { return index(from) * index(size_) + index(to); }

  template <class T> T& at(std::size_t offset) const {
    return *std::launder(reinterpret_cast<T*>(memory_ + offset));
  }

  void make() {
    Header* const header = new (memory_) Header;
    header->ranks = index(size_);
    for (int rank = 0; rank < size_; ++rank) {
      new (memory_ + doorbells + index(rank) * sizeof(Doorbell)) Doorbell;
      new (memory_ + processes(size_) + index(rank) * sizeof(Process)) Process;
      for (std::uint32_t k = 0; k < pieces(size_); ++k)
        new (memory_ + states(size_) + (index(rank) * pieces(size_) + k) * sizeof(PieceState)) PieceState;
      for (int to = 0; to < size_; ++to) new (memory_ + rings(size_) + pair(rank, to) * sizeof(Ring)) Ring;
    }
    header->magic.store(Header::ready, std::memory_order_release);
  }

  void check() const {
    const Header& header = at<Header>(0);
    if (header.magic.load(std::memory_order_acquire) != Header::ready)
      throw std::invalid_argument(
          "this shared memory was not made by HostMessages(create=True) of the same version");
    if (header.ranks != index(size_))
      throw std::invalid_argument("this shared memory is for " + std::to_string(header.ranks) +
                                  " ranks, wanted " + std::to_string(size_));
  }

  std::byte* memory_;
  int size_;
};

}  // namespace loosestep::shm
