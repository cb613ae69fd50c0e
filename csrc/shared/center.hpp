// The center: one vector that many workers update at different times, by any rule; a rule may update several.
//
// Chunks are locked because a compare-and-swap per element cannot be vectorized and is about ten times
// slower. Under the lock x and c see the same difference, so nothing is lost between them, and no reader sees
// half an update of a chunk. A lock is held for the microseconds that 16 KiB take, so waiters spin. Workers
// start at different chunks and continue in the same order, so they follow one another instead of queueing.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "shared/wait_policy.hpp"

namespace loosestep::shared {

class alignas(64) SpinLock {
 public:
  void lock() {
    for (int turn = 0; busy_.exchange(true, std::memory_order_acquire);)
      while (busy_.load(std::memory_order_relaxed)) wait(turn++);
  }
  void unlock() { busy_.store(false, std::memory_order_release); }

 private:
  // Yield after a while: the holder may wait for this core.
  static void wait(int turn) {
    if (turn < 200)
      cpu_relax();
    else
      std::this_thread::yield();
  }

  std::atomic<bool> busy_{false};
};

// The lock of a chunk and the number of updates that the chunk has received.
template <class Lock> struct ChunkLock : Lock {
  std::uint64_t updates = 0;
};

// A center over memory that it does not own: that of a process's threads, or a mapping of several processes.
// `deadline` is given where Lock::lock takes one.
template <class T, class Lock> class CenterView {
 public:
  using Value = T;
  using ChunkLocks = ChunkLock<Lock>*;

  // `chunk` is the number of elements under one lock, `lock_order` the position of this center in the order
  // in which centers are locked.
  CenterView(T* values, std::size_t size, ChunkLocks locks, std::size_t chunk,
             std::atomic<std::uint64_t>& version, std::uint64_t lock_order)
      : values_(values),
        size_(size),
        locks_(locks),
        chunk_(chunk),
        version_(version),
        lock_order_(lock_order) {}

  static std::size_t chunks(std::size_t size, std::size_t chunk) { return (size + chunk - 1) / chunk; }

  std::size_t size() const { return size_; }
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }
  T* values() const { return values_; }

  // Copy the values to `out`; return a version that they are at least as new as.
  template <class... Deadline> std::uint64_t fetch(T* out, int rank, Deadline... deadline) {
    const std::uint64_t before = version();
    for_chunks(rank, [&](std::size_t chunk, std::size_t begin, std::size_t end) {
      const LockedChunk locked(*this, chunk, deadline...);
      std::copy(values_ + begin, values_ + end, out + begin);
    });
    return before;
  }

  // Replace the values, as after `version` updates. No other thread may use the center.
  template <class... Deadline> void store(const T* values, std::uint64_t version, Deadline... deadline) {
    for_chunks(0, [&](std::size_t chunk, std::size_t begin, std::size_t end) {
      const LockedChunk locked(*this, chunk, deadline...);
      std::copy(values + begin, values + end, values_ + begin);
      locks_[chunk].updates = version;
    });
    version_.store(version, std::memory_order_release);
  }

  // A locked chunk of a center.
  class LockedChunk {
   public:
    template <class... Deadline>
    LockedChunk(CenterView& center, std::size_t chunk, Deadline... deadline) : lock_(&center.locks_[chunk]) {
      lock_->lock(deadline...);
    }
    LockedChunk(LockedChunk&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)) {}
    ~LockedChunk() {
      if (lock_) lock_->unlock();
    }
    std::uint64_t record_update() { return ++lock_->updates; }

   private:
    ChunkLocks lock_;
  };

  // Call work(chunk, begin, end) for every chunk. Ranks start at different chunks.
  template <class Work> void for_chunks(int rank, Work work) {
    const std::size_t all = chunks(size_, chunk_);
    for (std::size_t k = 0, first = first_chunk(rank, all); k < all; ++k) {
      const std::size_t chunk = (first + k) % all, begin = chunk * chunk_;
      work(chunk, begin, std::min(begin + chunk_, size_));
    }
  }

  std::uint64_t increment_version() { return version_.fetch_add(1, std::memory_order_acq_rel) + 1; }
  bool same_as(const CenterView& other) const { return lock_order_ == other.lock_order_; }
  bool locked_before(const CenterView& other) const { return lock_order_ < other.lock_order_; }

 private:
  // Multiples of the golden ratio are far apart for any number of ranks.
  static std::size_t first_chunk(int rank, std::size_t chunks) {
    const std::uint32_t turn = static_cast<std::uint32_t>(rank) * 2654435769u;
    return static_cast<std::size_t>((static_cast<std::uint64_t>(turn) * chunks) >> 32);
  }

  T* values_;
  std::size_t size_;
  ChunkLocks locks_;
  std::size_t chunk_;
  std::atomic<std::uint64_t>& version_;
  std::uint64_t lock_order_;
};

// Apply a rule to centers of the same size; return the version of the first. rule(begin, end, updates) runs
// on every chunk while that chunk is locked in all centers; `updates` counts those of the first center's
// chunk, this one included. Locks are taken in `lock_order`, not in the order of `centers`, so that
// concurrent calls cannot deadlock.
template <class Over, class Rule, class... Deadline>
std::uint64_t apply_rule(const std::vector<Over*>& centers, int rank, Rule rule, Deadline... deadline) {
  std::vector<Over*> ordered = centers;
  std::sort(ordered.begin(), ordered.end(),
            [](const Over* a, const Over* b) { return a->locked_before(*b); });
  const auto first =
      static_cast<std::size_t>(std::find(ordered.begin(), ordered.end(), centers[0]) - ordered.begin());
  std::vector<typename Over::LockedChunk> locked;
  locked.reserve(ordered.size());
  centers[0]->for_chunks(rank, [&](std::size_t chunk, std::size_t begin, std::size_t end) {
    for (Over* const center : ordered) locked.emplace_back(*center, chunk, deadline...);
    std::uint64_t updates = 0;
    for (std::size_t k = 0; k < locked.size(); ++k)
      if (const std::uint64_t now = locked[k].record_update(); k == first) updates = now;
    rule(begin, end, updates);
    locked.clear();
  });
  for (Over* const center : centers) center->increment_version();
  return centers[0]->version();
}

// The memory of a center of threads. A base class, so that it is constructed before the view of it.
template <class T> struct CenterMemory {
  static constexpr std::align_val_t alignment{64};

  struct Free {
    void operator()(T* values) const { ::operator delete(values, alignment); }
  };

  CenterMemory(const T* initial, std::size_t size, std::size_t chunks)
      : memory(allocate(size)), locks(std::make_unique<ChunkLock<SpinLock>[]>(chunks)) {
    std::copy_n(initial, size, memory.get());
  }

  static T* allocate(std::size_t size) {
    return static_cast<T*>(::operator new(std::max<std::size_t>(size, 1) * sizeof(T), alignment));
  }

  std::unique_ptr<T, Free> memory;
  std::unique_ptr<ChunkLock<SpinLock>[]> locks;
  alignas(64) std::atomic<std::uint64_t> count{0};
};

template <class T> class Center : private CenterMemory<T>, public CenterView<T, SpinLock> {
  using Memory = CenterMemory<T>;
  using Over = CenterView<T, SpinLock>;

 public:
  Center(const T* initial, std::size_t size, std::size_t chunk)
      : Memory(initial, size, Over::chunks(size, chunk)),
        Over(Memory::memory.get(), size, Memory::locks.get(), chunk, Memory::count,
             reinterpret_cast<std::uintptr_t>(this)) {}
};

}  // namespace loosestep::shared
