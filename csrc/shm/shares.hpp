// A sparse file with a share for each rank of a host, mapped as a whole: what an arena asks of the system.
#pragma once

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "shm/mapping.hpp"

namespace loosestep::shm {

inline constexpr std::size_t huge_page = std::size_t(2) << 20;

inline std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

// Addresses from a multiple of huge_page on: private memory, or kept free.
class AlignedAddresses {
 public:
  AlignedAddresses(std::size_t bytes, int access) : bytes_(bytes) {
    constexpr int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    all_ = ::mmap(nullptr, bytes + huge_page, access, kind, -1, 0);
    if (all_ == MAP_FAILED) fail(errno, "no room for " + std::to_string(bytes) + " bytes of memory");
  }
  ~AlignedAddresses() {
    if (used_ && before() > 0) ::munmap(all_, before());
    std::byte* const end = start() + bytes_;
    if (used_)
      ::munmap(end, huge_page - before());
    else
      ::munmap(all_, bytes_ + huge_page);
  }
  AlignedAddresses(const AlignedAddresses&) = delete;
  AlignedAddresses& operator=(const AlignedAddresses&) = delete;

  std::byte* start() const { return static_cast<std::byte*>(all_) + before(); }
  void use() { used_ = true; }  // the aligned part is somebody else's from now on

 private:
  std::size_t before() const {
    return (huge_page - reinterpret_cast<std::uintptr_t>(all_) % huge_page) % huge_page;
  }

  void* all_;
  std::size_t bytes_;
  bool used_ = false;
};

class Shares {
 public:
  // Return the bytes of the file for so many ranks. A share has room for all memory of the machine, as far as
  // addresses suffice.
  static std::size_t bytes(int ranks) {
    constexpr std::size_t addresses = std::size_t(1) << (sizeof(void*) > 4 ? 44 : 28);
    const std::size_t count = static_cast<std::size_t>(ranks);
    const std::size_t memory = static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * page_bytes();
    return std::max(std::min(memory, addresses / count) / huge_page, std::size_t(1)) * huge_page * count;
  }

  // Set the size of a file, of which nothing is reserved.
  static void extend(int fd, std::size_t bytes) {
    rlimit limit = {};
    if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes)  // the system would send SIGXFSZ
      fail(EFBIG,
           "shared memory of " + std::to_string(bytes) + " bytes is over this process's limit of files");
    if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) fail(errno, "shared memory cannot be made");
  }

  Shares(File file, int ranks, int rank)
      : file_(std::move(file)),
        ranks_(static_cast<std::size_t>(ranks)),
        rank_(static_cast<std::size_t>(rank)),
        share_(size_of(file_.get(), "arena") / ranks_ / huge_page * huge_page) {
    if (share_ == 0) throw std::invalid_argument("this shared memory was not made for an arena");
    AlignedAddresses addresses(share_ * ranks_, PROT_NONE);
    map(addresses.start(), share_ * ranks_, MAP_SHARED, 0);
    base_ = addresses.start();
    addresses.use();
    if (rank_ > 0) ::madvise(base_, share_ * rank_, MADV_DONTFORK);
    if (rank_ + 1 < ranks_) ::madvise(mine() + share_, share_ * (ranks_ - rank_ - 1), MADV_DONTFORK);
  }

  std::size_t share() const { return share_; }
  std::byte* base() const { return base_; }
  std::byte* mine() const { return base_ + share_ * rank_; }
  std::byte* end() const { return base_ + share_ * ranks_; }
  std::byte* at(int rank, std::size_t offset) const {
    return base_ + share_ * static_cast<std::size_t>(rank) + offset;
  }

  // Make the system allocate every page of this part of the own share now: a lack of memory is no SIGBUS
  // later. Return whether it did.
  bool reserve(std::size_t begin, std::size_t length) const {
    const bool huge = length >= huge_page && begin % huge_page == 0;
    if (huge) collapse(begin, length);
    if (!allocate(begin, length)) return false;
#if defined(MADV_POPULATE_WRITE)
    if (huge) ::madvise(mine() + begin, length, MADV_POPULATE_WRITE);  // else pages are mapped when touched
#endif
    return true;
  }

  // Give the pages back; their content is zero when they are reserved again.
  void drop(std::size_t begin, std::size_t length) const {
    constexpr int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    ::fallocate(file_.get(), how, place(begin), static_cast<off_t>(length));
  }

  // Replace the pages by private ones with their content, atomically.
  void make_private(std::size_t begin, std::size_t length) const {
    AlignedAddresses own(length, PROT_READ | PROT_WRITE);
#if defined(MADV_HUGEPAGE)
    if (length >= huge_page) ::madvise(own.start(), length, MADV_HUGEPAGE);
#endif
    std::byte* const memory = mine() + begin;
    std::copy(memory, memory + length, own.start());
    if (::mremap(own.start(), length, length, MREMAP_MAYMOVE | MREMAP_FIXED, memory) == MAP_FAILED)
      fail(errno, "shared memory cannot be replaced by private memory");
    own.use();
    drop(begin, length);
  }

  // In a forked child: let the pages be the parent's until they are written, and then this process's own.
  void copy_on_write(std::size_t begin, std::size_t length) const noexcept {
    std::byte* const memory = mine() + begin;
    constexpr int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    if (::mmap(memory, length, PROT_READ | PROT_WRITE, flags, file_.get(), place(begin)) == MAP_FAILED)
      ::mprotect(memory, length, PROT_READ);  // a write ends the child, and does not reach the parent
  }

 private:
  static constexpr int madv_collapse = 25;  // Linux 6.1; others refuse it

  off_t place(std::size_t begin) const { return static_cast<off_t>(share_ * rank_ + begin); }

  void map(std::byte* memory, std::size_t bytes, int kind, off_t from) const {
    const int flags = kind | MAP_FIXED | MAP_NORESERVE;
    if (::mmap(memory, bytes, PROT_READ | PROT_WRITE, flags, file_.get(), from) == MAP_FAILED)
      fail(errno, "shared memory cannot be mapped");
  }

  // Get huge pages, which most systems give to shared memory only on demand. They are made of ranges in which
  // one page is there; where that fails, small pages are slower, not wrong.
  void collapse(std::size_t begin, std::size_t length) const {
    for (std::size_t at = begin; at < begin + length; at += huge_page) {
      if (!allocate(at, page_bytes())) return;
      *static_cast<volatile std::byte*>(mine() + at) = std::byte(0);
      if (::madvise(mine() + at, huge_page, madv_collapse) != 0) return;
    }
  }

  bool allocate(std::size_t begin, std::size_t length) const {
    int error = 0;
    while ((error = ::posix_fallocate(file_.get(), place(begin), static_cast<off_t>(length))) == EINTR) {
    }
    return error == 0;
  }

  File file_;
  std::size_t ranks_, rank_, share_;
  std::byte* base_ = nullptr;
};

}  // namespace loosestep::shm
