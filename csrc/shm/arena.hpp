// Memory of every rank of a host that all its ranks map: a collective reads and writes the vectors that lie in
// it in place, without a copy on the way.
//
// One file has a share for each rank. Only its owner allocates in a share; the others find a vector by its
// offset. The file is sparse: pages are reserved when they are allocated and given back when they are freed.
#pragma once

#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "shm/mapping.hpp"

namespace loosestep::shm {

class Arena {
 public:
  // Return a descriptor of new memory for so many ranks, none of it reserved.
  static int make(int size) {
    const std::size_t bytes = share_for(size) * static_cast<std::size_t>(size);
    File file(::memfd_create("loosestep", MFD_CLOEXEC));
    if (file.get() < 0) fail(errno, "shared memory cannot be made");
    extend(file.get(), bytes);
    return file.release();
  }

  // Set the size of a file to what so many ranks need.
  static void extend(int fd, std::size_t bytes) {
    rlimit limit = {};
    if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes)  // the system would send SIGXFSZ
      fail(EFBIG, "shared memory of " + std::to_string(bytes) + " bytes is over this process's limit of files");
    if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) fail(errno, "shared memory cannot be made");
  }

  static std::size_t bytes(int size) { return share_for(size) * static_cast<std::size_t>(size); }

  Arena(File file, int size, int rank)
      : file_(std::move(file)),
        size_(static_cast<std::size_t>(size)),
        rank_(static_cast<std::size_t>(rank)),
        share_(size_of(file_.get(), "arena") / size_ / huge_page * huge_page) {
    if (share_ == 0) throw std::invalid_argument("this shared memory was not made for an arena");
    map();
    free_.emplace(0, share_);
    Registry::all().add(this);
  }
  ~Arena() {
    Registry::all().remove(this);
    if (open_) ::munmap(base_, share_ * size_);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Return zeroed memory of this rank, or nullptr where there is none: the caller has private memory then.
  std::byte* allocate(std::size_t bytes) {
    const std::size_t start = bytes >= staggered_from ? next_start() : 0;
    const bool huge = bytes >= huge_page;
    const std::size_t length = round_up(std::max<std::size_t>(bytes, 1) + start, huge ? huge_page : page());
    if (huge && length > available_memory()) return nullptr;
    const std::lock_guard lock(mutex_);
    std::size_t begin = 0;
    if (!open_ || !take(length, huge ? huge_page : page(), begin)) return nullptr;
    if (!reserve(begin, length, huge)) {
      give_back(begin, length);
      return nullptr;
    }
    live_.emplace(begin, length);
    return mine() + begin + start;
  }

  // Give memory from allocate() back, also after close().
  void release(const std::byte* memory) {
    const std::lock_guard lock(mutex_);
    const auto found = std::prev(live_.upper_bound(static_cast<std::size_t>(memory - mine())));
    const auto [begin, length] = *found;
    live_.erase(found);
    if (open_)
      give_back(begin, length);
    else
      ::munmap(mine() + begin, length);
  }

  // Return whether this rank's share holds these bytes.
  bool holds(const void* memory, std::size_t bytes) const {
    const auto at = reinterpret_cast<std::uintptr_t>(memory), from = reinterpret_cast<std::uintptr_t>(mine());
    return open_ && at >= from && bytes <= share_ && at - from <= share_ - bytes;
  }

  std::size_t offset_of(const void* memory) const {
    return static_cast<std::size_t>(static_cast<const std::byte*>(memory) - mine());
  }
  std::byte* at(int rank, std::size_t offset) const {
    return base_ + share_ * static_cast<std::size_t>(rank) + offset;
  }

  // Make all memory in use this process's own, at the same addresses, and unmap the rest. If the system has no
  // memory for a copy, an error says so, and what is left stays mapped.
  void close() {
    const std::lock_guard lock(mutex_);
    if (!open_) return;
    for (const auto& [begin, length] : live_) make_private(begin, length);
    open_ = false;
    unmap_unused();
  }

  bool is_open() const { return open_; }

 private:
  static constexpr std::size_t huge_page = std::size_t(2) << 20;
  static constexpr int madv_collapse = 25;  // Linux 6.1; others refuse it
  // As in cpu/memory.cpp: buffers at the same offset in their pages compete for cache ways.
  static constexpr std::size_t stagger = 17 * 64, start_positions = 16, staggered_from = 128 * 1024;

  // The open arenas of this process, for forks.
  //
  // A forked child has the memory of its own rank as private copies, which cost nothing until they are written;
  // it would else write its parent's. The memory of other ranks is not mapped in it.
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

  static std::size_t page() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

  static std::size_t round_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

  // A share has room for all memory of the machine, as far as addresses suffice.
  static std::size_t share_for(int size) {
    constexpr std::size_t addresses = std::size_t(1) << (sizeof(void*) > 4 ? 44 : 28);
    const std::size_t memory = static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * page();
    const std::size_t most = addresses / static_cast<std::size_t>(size);
    return std::max(std::min(memory, most) / huge_page, std::size_t(1)) * huge_page;
  }

  std::byte* mine() const { return base_ + share_ * rank_; }

  std::size_t next_start() {
    const std::lock_guard lock(mutex_);
    return starts_++ % start_positions * stagger;
  }

  void map() {
    const std::size_t bytes = share_ * size_;
    void* const all = ::mmap(nullptr, bytes + huge_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) fail(errno, "no addresses for " + std::to_string(bytes) + " bytes of shared memory");
    std::byte* const start = static_cast<std::byte*>(all);
    const std::size_t before = (huge_page - reinterpret_cast<std::uintptr_t>(start) % huge_page) % huge_page;
    base_ = start + before;
    const int flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
    if (::mmap(base_, bytes, PROT_READ | PROT_WRITE, flags, file_.get(), 0) == MAP_FAILED) {
      const int error = errno;
      ::munmap(all, bytes + huge_page);
      fail(error, "shared memory cannot be mapped");
    }
    if (before > 0) ::munmap(start, before);
    ::munmap(base_ + bytes, huge_page - before);
    if (rank_ > 0) ::madvise(base_, share_ * rank_, MADV_DONTFORK);
    if (rank_ + 1 < size_) ::madvise(mine() + share_, share_ * (size_ - rank_ - 1), MADV_DONTFORK);
  }

  // Find the first free place of that length and alignment.
  bool take(std::size_t length, std::size_t alignment, std::size_t& begin) {
    for (const auto& [from, free] : free_) {
      begin = round_up(from, alignment);
      if (begin + length > from + free) continue;
      const std::size_t end = from + free;
      if (begin > from)
        free_[from] = begin - from;
      else
        free_.erase(from);
      if (begin + length < end) free_.emplace(begin + length, end - begin - length);
      return true;
    }
    return false;
  }

  void give_back(std::size_t begin, std::size_t length) {
    ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, place(begin), static_cast<off_t>(length));
    const auto after = free_.find(begin + length);
    if (after != free_.end()) {
      length += after->second;
      free_.erase(after);
    }
    const auto next = free_.lower_bound(begin);
    if (next != free_.begin() && std::prev(next)->first + std::prev(next)->second == begin)
      std::prev(next)->second += length;
    else
      free_.emplace(begin, length);
  }

  off_t place(std::size_t begin) const { return static_cast<off_t>(share_ * rank_ + begin); }

  // Make the system allocate every page now: a lack of memory is no SIGBUS later.
  bool reserve(std::size_t begin, std::size_t length, bool huge) const {
    if (huge) collapse(begin, length);
    if (!allocate_pages(begin, length)) return false;
#if defined(MADV_POPULATE_WRITE)
    if (huge) ::madvise(mine() + begin, length, MADV_POPULATE_WRITE);  // else pages are mapped when touched
#endif
    return true;
  }

  // Get huge pages, which most systems give to shared memory only on demand. They are made of ranges in which one
  // page is there; where that fails, small pages are slower, not wrong.
  void collapse(std::size_t begin, std::size_t length) const {
    for (std::size_t at = begin; at < begin + length; at += huge_page) {
      if (!allocate_pages(at, page())) return;
      *static_cast<volatile std::byte*>(mine() + at) = std::byte(0);
      if (::madvise(mine() + at, huge_page, madv_collapse) != 0) return;
    }
  }

  bool allocate_pages(std::size_t begin, std::size_t length) const {
    int error = 0;
    while ((error = ::posix_fallocate(file_.get(), place(begin), static_cast<off_t>(length))) == EINTR) {
    }
    return error == 0;
  }

  // Replace the pages of one allocation, atomically.
  void make_private(std::size_t begin, std::size_t length) {
    std::byte* const memory = mine() + begin;
    void* const all =
        ::mmap(nullptr, length + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) fail(errno, "no room for " + std::to_string(length) + " bytes of memory");
    std::byte* const start = static_cast<std::byte*>(all);
    const std::size_t before = (huge_page - reinterpret_cast<std::uintptr_t>(start) % huge_page) % huge_page;
    std::byte* const own = start + before;
#if defined(MADV_HUGEPAGE)
    if (length >= huge_page) ::madvise(own, length, MADV_HUGEPAGE);
#endif
    std::copy(memory, memory + length, own);
    if (::mremap(own, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, memory) == MAP_FAILED) {
      const int error = errno;
      ::munmap(all, length + huge_page);
      fail(error, "shared memory cannot be replaced by private memory");
    }
    if (before > 0) ::munmap(start, before);
    ::munmap(own + length, huge_page - before);
    ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, place(begin), static_cast<off_t>(length));
  }

  void unmap_unused() {
    std::byte* from = base_;
    for (const auto& [begin, length] : live_) {
      std::byte* const memory = mine() + begin;
      if (memory > from) ::munmap(from, static_cast<std::size_t>(memory - from));
      from = memory + length;
    }
    std::byte* const end = base_ + share_ * size_;
    if (end > from) ::munmap(from, static_cast<std::size_t>(end - from));
  }

  // In a forked child: the pages are those of the file until they are written, and then this process's own.
  void leave_parent() {
    if (!open_) return;
    open_ = false;
    for (const auto& [begin, length] : live_) {
      constexpr int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
      void* const memory = mine() + begin;
      if (::mmap(memory, length, PROT_READ | PROT_WRITE, flags, file_.get(), place(begin)) == MAP_FAILED)
        ::mprotect(memory, length, PROT_READ);  // a write ends the child, and does not reach the parent
    }
  }

  File file_;
  std::size_t size_, rank_, share_;
  std::byte* base_ = nullptr;
  mutable std::mutex mutex_;                   // guards what follows
  std::map<std::size_t, std::size_t> live_;    // begin and length of each allocation in this share
  std::map<std::size_t, std::size_t> free_;    // ... and of the free places
  std::size_t starts_ = 0;
  std::atomic<bool> open_{true};
};

}  // namespace loosestep::shm
