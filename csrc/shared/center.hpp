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

template <class T>
class Center {
 public:
  // `chunk` is the number of elements under one lock.
  Center(const T* initial, std::size_t size, std::size_t chunk)
      : size_(size),
        chunk_(chunk),
        chunks_((size + chunk - 1) / chunk),
        values_(allocate(size)),
        locks_(std::make_unique<SpinLock[]>(chunks_)) {
    std::copy_n(initial, size, values_.get());
  }

  std::size_t size() const { return size_; }
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }

  // d = rate * (x - c), x -= d, c += d. Returns the number of additions so far, this one included.
  std::uint64_t elastic(T* __restrict x, T rate, int rank) {
    for_chunks(rank, [x, rate](T* __restrict c, std::size_t begin, std::size_t n) {
      T* __restrict mine = x + begin;
      for (std::size_t i = 0; i < n; ++i) {
        const T d = rate * (mine[i] - c[i]);
        mine[i] -= d;
        c[i] += d;
      }
    });
    return count();
  }

  std::uint64_t add(const T* __restrict delta, int rank) {
    for_chunks(rank, [delta](T* __restrict c, std::size_t begin, std::size_t n) {
      for (std::size_t i = 0; i < n; ++i) c[i] += delta[begin + i];
    });
    return count();
  }

  // Returns a version that the values read are at least as new as.
  std::uint64_t fetch(T* out, int rank) {
    const std::uint64_t before = version();
    for_chunks(rank, [out](const T* c, std::size_t begin, std::size_t n) { std::copy_n(c, n, out + begin); });
    return before;
  }

  void store(const T* values) {
    for_chunks(0, [values](T* c, std::size_t begin, std::size_t n) { std::copy_n(values + begin, n, c); });
  }

 private:
  static constexpr std::align_val_t alignment{64};

  struct Free {
    void operator()(T* values) const { ::operator delete(values, alignment); }
  };


  static T* allocate(std::size_t size) {
    return static_cast<T*>(::operator new(std::max<std::size_t>(size, 1) * sizeof(T), alignment));
  }

  template <class Work>
  void for_chunks(int rank, Work work) {
    for (std::size_t k = 0, first = first_chunk(rank); k < chunks_; ++k) {
      const std::size_t chunk = (first + k) % chunks_, begin = chunk * chunk_;
      locks_[chunk].lock();
      work(values_.get() + begin, begin, std::min(chunk_, size_ - begin));
      locks_[chunk].unlock();
    }
  }

  // Multiples of the golden ratio lie far apart whatever the number of ranks.
  std::size_t first_chunk(int rank) const {
    const std::uint32_t turn = static_cast<std::uint32_t>(rank) * 2654435769u;
    return static_cast<std::size_t>((static_cast<std::uint64_t>(turn) * chunks_) >> 32);
  }

  std::uint64_t count() { return version_.fetch_add(1, std::memory_order_acq_rel) + 1; }

  std::size_t size_, chunk_, chunks_;
  std::unique_ptr<T, Free> values_;
  std::unique_ptr<SpinLock[]> locks_;
  alignas(64) std::atomic<std::uint64_t> version_{0};
};

}  // namespace loosestep::shared
