// The elastic center: one vector that many workers pull at, each at its own time.
//
// Why a lock per chunk and not a compare-and-swap per element: inside a chunk the loop is plain and vectorised (about
// ten times faster than a CAS loop, which cannot be), x and c see the same difference so that nothing is lost between
// them, and no reader sees half an update of a chunk. A lock is held for the microseconds that 16 KiB take, so waiters
// spin. Workers start at different chunks and walk round, so they follow one another instead of queueing.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <thread>

#include "shared/parking.hpp"

namespace loosestep::shared {

class alignas(64) SpinLock {
 public:
  void lock() {
    for (int turn = 0; busy_.exchange(true, std::memory_order_acquire);)
      while (busy_.load(std::memory_order_relaxed)) wait(turn++);
  }
  void unlock() { busy_.store(false, std::memory_order_release); }

 private:
  // The holder may have lost its core: after a while give it ours.
  static void wait(int turn) {
    if (turn < 200) cpu_relax();
    else std::this_thread::yield();
  }

  std::atomic<bool> busy_{false};
};

// Over memory that somebody else owns: threads' own, or a mapping of processes. Lock::lock takes `until`, if anything.
template <class T, class Lock>
class CenterOver {
 public:
  // `chunk` is the number of elements under one lock.
  CenterOver(T* values, std::size_t size, Lock* locks, std::size_t chunk, std::atomic<std::uint64_t>& version)
      : values_(values), size_(size), locks_(locks), chunk_(chunk), version_(version) {}

  static std::size_t chunks(std::size_t size, std::size_t chunk) { return (size + chunk - 1) / chunk; }

  std::size_t size() const { return size_; }
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }

  // d = rate * (x - c), x -= d, c += d. Returns the number of additions so far, this one included.
  template <class... Until>
  std::uint64_t elastic(T* __restrict x, T rate, int rank, Until... until) {
    const auto work = [x, rate](T* __restrict c, std::size_t begin, std::size_t n) {
      T* __restrict mine = x + begin;
      for (std::size_t i = 0; i < n; ++i) {
        const T d = rate * (mine[i] - c[i]);
        mine[i] -= d;
        c[i] += d;
      }
    };
    for_chunks(rank, work, until...);
    return count();
  }

  template <class... Until>
  std::uint64_t add(const T* __restrict delta, int rank, Until... until) {
    const auto work = [delta](T* __restrict c, std::size_t begin, std::size_t n) {
      for (std::size_t i = 0; i < n; ++i) c[i] += delta[begin + i];
    };
    for_chunks(rank, work, until...);
    return count();
  }

  // Returns a version that the values read are at least as new as.
  template <class... Until>
  std::uint64_t fetch(T* out, int rank, Until... until) {
    const std::uint64_t before = version();
    const auto work = [out](const T* c, std::size_t begin, std::size_t n) { std::copy_n(c, n, out + begin); };
    for_chunks(rank, work, until...);
    return before;
  }

  template <class... Until>
  void store(const T* values, Until... until) {
    const auto work = [values](T* c, std::size_t begin, std::size_t n) { std::copy_n(values + begin, n, c); };
    for_chunks(0, work, until...);
  }

 private:
  template <class Work, class... Until>
  void for_chunks(int rank, Work work, Until... until) {
    const std::size_t all = chunks(size_, chunk_);
    for (std::size_t k = 0, first = first_chunk(rank, all); k < all; ++k) {
      const std::size_t chunk = (first + k) % all, begin = chunk * chunk_;
      locks_[chunk].lock(until...);
      work(values_ + begin, begin, std::min(chunk_, size_ - begin));
      locks_[chunk].unlock();
    }
  }

  // Multiples of the golden ratio lie far apart whatever the number of ranks.
  static std::size_t first_chunk(int rank, std::size_t chunks) {
    const std::uint32_t turn = static_cast<std::uint32_t>(rank) * 2654435769u;
    return static_cast<std::size_t>((static_cast<std::uint64_t>(turn) * chunks) >> 32);
  }

  std::uint64_t count() { return version_.fetch_add(1, std::memory_order_acq_rel) + 1; }

  T* values_;
  std::size_t size_;
  Lock* locks_;
  std::size_t chunk_;
  std::atomic<std::uint64_t>& version_;
};

// What a center of threads owns; a base, so that it is there before the center over it.
template <class T>
struct CenterMemory {
  static constexpr std::align_val_t alignment{64};

  struct Free {
    void operator()(T* values) const { ::operator delete(values, alignment); }
  };

  CenterMemory(const T* initial, std::size_t size, std::size_t chunks)
      : values(allocate(size)), locks(std::make_unique<SpinLock[]>(chunks)) {
    std::copy_n(initial, size, values.get());
  }

  static T* allocate(std::size_t size) {
    return static_cast<T*>(::operator new(std::max<std::size_t>(size, 1) * sizeof(T), alignment));
  }

  std::unique_ptr<T, Free> values;
  std::unique_ptr<SpinLock[]> locks;
  alignas(64) std::atomic<std::uint64_t> count{0};
};

template <class T>
class Center : private CenterMemory<T>, public CenterOver<T, SpinLock> {
  using Memory = CenterMemory<T>;
  using Over = CenterOver<T, SpinLock>;

 public:
  Center(const T* initial, std::size_t size, std::size_t chunk)
      : Memory(initial, size, Over::chunks(size, chunk)),
        Over(Memory::values.get(), size, Memory::locks.get(), chunk, Memory::count) {}
};

}  // namespace loosestep::shared
