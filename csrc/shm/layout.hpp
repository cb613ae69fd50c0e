// The layout of the memory that the ranks of a host share: a header, a record for each rank, and slots for
// its pieces.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

#include "shared/collective_args.hpp"
#include "shm/futex_counter.hpp"
#include "shm/status_text.hpp"

namespace loosestep::shm {

// The most that a piece holds. Small pieces cost a synchronization each, large ones leave the cache (Forms;
// measurements: docs/results/collectives.md).
inline constexpr std::size_t slot_bytes = 512 * 1024;

// Return the number of slots R for the pieces of a rank. With 2 all ranks advance in step; with 2 a + 2 a
// rank may be `a` pieces ahead (see Collectives), so two ranks, whose sums have one synchronization per
// piece, do not wait for each other's core at every one.
inline std::uint32_t slots_per_rank(int size) { return size == 2 ? 8 : 2; }

// The arguments of a call, small enough for the cache line of the counter.
struct CallHeader {
  std::uint64_t size = 0;
  double weight = 1;
  std::uint8_t kind = 0, op = 0, dtype = 0;
  std::int32_t root = 0;

  static CallHeader of(const shared::CollectiveArgs& args) {
    const auto byte = [](auto word) { return static_cast<std::uint8_t>(word); };
    return {args.size, args.weight, byte(args.kind), byte(args.op), byte(args.dtype), args.root};
  }

  // Return the arguments without the buffers, which only their own rank can access.
  shared::CollectiveArgs args() const {
    shared::CollectiveArgs args;
    args.kind = static_cast<shared::Kind>(kind), args.op = static_cast<shared::Op>(op);
    args.dtype = static_cast<shared::Dtype>(dtype), args.root = root, args.size = size;
    return args;
  }
};

// A rank's part of a sum in place (DirectWork): the call's number and how many pieces have been claimed in
// one word, so that who is late claims nothing of a later call, and how many are done.
struct Share {
  std::atomic<std::uint64_t> claimed{0};
  std::atomic<std::uint32_t> done{0};

  void begin(std::uint32_t call) {
    done.store(0, std::memory_order_relaxed);
    claimed.store(std::uint64_t{call} << 32, std::memory_order_relaxed);
  }
};

struct RankRecord {
  // The pieces that this rank has published (empty ones where it has no data), its last two calls by their
  // number, the number of calls that it has begun, and on rank 0 which stores all ranks use (StoreChoices).
  alignas(128) FutexCounter published;
  std::array<CallHeader, 2> calls{};
  std::uint32_t calls_begun = 0;
  std::atomic<std::uint16_t> streaming_sizes{255};
  // The last heartbeat in nanoseconds of CLOCK_MONOTONIC; 0: this rank never started.
  alignas(128) std::atomic<std::int64_t> last_beat{0};
  std::atomic<std::uint64_t> beats{0};
  // Where the vectors of its last two calls lie in the arena: offset + 1; 0: elsewhere.
  alignas(64) std::array<std::uint64_t, 2> places{};
  alignas(64) Share share;
  alignas(64) StatusText status;
};
static_assert(sizeof(FutexCounter) + 2 * sizeof(CallHeader) + 8 <= 64,
              "one line from core to core tells all");

struct Header {
  static constexpr std::uint64_t ready = 0x6c6f6f7365000004;  // changes with the layout

  alignas(64) std::atomic<std::uint64_t> magic{0};  // written last
  std::uint64_t ranks = 0, piece = 0;
  alignas(64) std::atomic<bool> aborted{false};
};

class Layout {
 public:
  static std::size_t bytes(int size) { return data(size) + slots_per_rank(size) * index(size) * slot_bytes; }

  // The creator writes the header; the others check it.
  Layout(std::byte* memory, int size, bool create) : memory_(memory), size_(size) {
    if (create)
      make();
    else
      check();
  }

  Header& header() const { return *std::launder(reinterpret_cast<Header*>(memory_)); }
  RankRecord& record(int rank) const {
    return *std::launder(reinterpret_cast<RankRecord*>(memory_ + records + index(rank) * sizeof(RankRecord)));
  }
  std::byte* piece(int rank, std::uint32_t number) const {
    const std::size_t slots = slots_per_rank(size_);
    return memory_ + data(size_) + (slots * index(rank) + number % slots) * slot_bytes;
  }

 private:
  static constexpr std::size_t page = 4096, records = 256;
  static_assert(sizeof(Header) <= records);

  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }
  static std::size_t data(int size) {
    return (records + index(size) * sizeof(RankRecord) + page - 1) / page * page;
  }

  void make() {
    Header* const header = new (memory_) Header;
    header->ranks = index(size_), header->piece = slot_bytes;
    for (int rank = 0; rank < size_; ++rank)
      new (memory_ + records + index(rank) * sizeof(RankRecord)) RankRecord;
    header->magic.store(Header::ready, std::memory_order_release);
  }

  void check() const {
    if (header().magic.load(std::memory_order_acquire) != Header::ready || header().piece != slot_bytes)
      throw std::invalid_argument("this shared memory was not made by Host(create=True) of the same version");
    if (header().ranks != index(size_))
      throw std::invalid_argument("this shared memory is for " + std::to_string(header().ranks) +
                                  " ranks, wanted " + std::to_string(size_));
  }

  std::byte* memory_;
  int size_;
};

}  // namespace loosestep::shm
