// Memory of every rank of a host that all its ranks map: a collective reads and writes the vectors that lie
// in it in place, without a copy on the way.
//
// One file has a share for each rank. Only its owner allocates in a share; the others find a vector by its
// offset. Pages are reserved when they are allocated and given back when they are freed.
#pragma once

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "shm/extents.hpp"
#include "shm/mapping.hpp"
#include "shm/shares.hpp"

namespace loosestep::shm {

class Arena {
 public:
  // Return a descriptor of new memory for so many ranks, none of it reserved.
  static int make(int size) {
    File file(::memfd_create("loosestep", MFD_CLOEXEC));
    if (file.get() < 0) fail(errno, "shared memory cannot be made");
    Shares::extend(file.get(), Shares::bytes(size));
    return file.release();
  }

  Arena(File file, int size, int rank) : shares_(std::move(file), size, rank), free_(shares_.share()) {
    Registry::all().add(this);
  }
  ~Arena() {
    Registry::all().remove(this);
    if (open_) unmap(shares_.base(), shares_.end());
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Return zeroed memory of this rank, or nullptr where there is none: the caller has private memory then.
  std::byte* allocate(std::size_t bytes) {
    if (bytes > shares_.share() || (bytes >= huge_page && bytes > available_memory())) return nullptr;
    const std::lock_guard lock(mutex_);
    const std::size_t unit = bytes >= huge_page ? huge_page : page_bytes();
    const std::size_t start = bytes >= staggered_from ? starts_++ % start_positions * stagger : 0;
    const std::size_t length = (std::max<std::size_t>(bytes, 1) + start + unit - 1) / unit * unit;
    const std::optional<std::size_t> begin = open_ ? free_.take(length, unit) : std::nullopt;
    if (!begin) return nullptr;
    if (!shares_.reserve(*begin, length)) {
      give_back(*begin, length);
      return nullptr;
    }
    live_.emplace(*begin, length);
    return shares_.mine() + *begin + start;
  }

  // Give memory from allocate() back, also after close().
  void release(const std::byte* memory) {
    const std::lock_guard lock(mutex_);
    const auto found = std::prev(live_.upper_bound(offset_of(memory)));
    const auto [begin, length] = *found;
    live_.erase(found);
    if (open_)
      give_back(begin, length);
    else
      ::munmap(shares_.mine() + begin, length);
  }

  // Return whether this rank's share holds these bytes.
  bool holds(const void* memory, std::size_t bytes) const {
    const auto at = reinterpret_cast<std::uintptr_t>(memory),
               from = reinterpret_cast<std::uintptr_t>(shares_.mine());
    return open_ && at >= from && bytes <= shares_.share() && at - from <= shares_.share() - bytes;
  }

  std::size_t offset_of(const void* memory) const {
    return static_cast<std::size_t>(static_cast<const std::byte*>(memory) - shares_.mine());
  }
  std::byte* at(int rank, std::size_t offset) const { return shares_.at(rank, offset); }

  // Make all memory in use this process's own, at the same addresses, and unmap the rest. If the system has
  // no memory for a copy, an error says so, and what is left stays mapped.
  void close() {
    const std::lock_guard lock(mutex_);
    if (!open_) return;
    for (const auto& [begin, length] : live_) shares_.make_private(begin, length);
    open_ = false;
    std::byte* from = shares_.base();
    for (const auto& [begin, length] : live_) {
      unmap(from, shares_.mine() + begin);
      from = shares_.mine() + begin + length;
    }
    unmap(from, shares_.end());
  }

 private:
  // As in cpu/memory.cpp: buffers at the same offset in their pages compete for cache ways.
  static constexpr std::size_t stagger = 17 * 64, start_positions = 16, staggered_from = 128 * 1024;

  // The arenas of this process, for forks: a child has the memory of its own rank as private copies, for it
  // would write its parent's. The memory of other ranks is not mapped in it.
  class Registry {
   public:
    static Registry& all() {
      static Registry* const registry = new Registry;  // never destroyed: forks may happen at the very end
      return *registry;
    }
    void add(Arena* arena) {
      const std::lock_guard lock(mutex_);
      arenas_.push_back(arena);
    }
    void remove(Arena* arena) {
      const std::lock_guard lock(mutex_);
      std::erase(arenas_, arena);
    }

   private:
    Registry() { ::pthread_atfork(before, in_parent, in_child); }

    static void before() {
      all().mutex_.lock();
      for (Arena* const arena : all().arenas_) arena->mutex_.lock();
    }
    static void in_parent() {
      for (Arena* const arena : all().arenas_) arena->mutex_.unlock();
      all().mutex_.unlock();
    }
    static void in_child() {
      for (Arena* const arena : all().arenas_) arena->leave_parent();
      in_parent();
    }

    std::mutex mutex_;
    std::vector<Arena*> arenas_;
  };

  static void unmap(std::byte* from, std::byte* to) {
    if (to > from) ::munmap(from, static_cast<std::size_t>(to - from));
  }

  void give_back(std::size_t begin, std::size_t length) {
    shares_.drop(begin, length);
    free_.give_back(begin, length);
  }

  void leave_parent() noexcept {
    if (!open_) return;
    open_ = false;
    for (const auto& [begin, length] : live_) shares_.copy_on_write(begin, length);
  }

  Shares shares_;
  std::mutex mutex_;                         // guards what follows; `open_` may be read without
  Extents free_;                             // of this rank's share
  std::map<std::size_t, std::size_t> live_;  // begin and length of each allocation in it
  std::size_t starts_ = 0;
  std::atomic<bool> open_{true};
};

}  // namespace loosestep::shm
