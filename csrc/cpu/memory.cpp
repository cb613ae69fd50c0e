#include "cpu/memory.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu/threads.hpp"

namespace loosestep {
namespace {

constexpr std::size_t huge_page = std::size_t(2) << 20;
constexpr std::size_t small_page = 4096;

// Buffers at the same offset in their pages compete for cache ways and memory banks: an op on four or five of
// them lost up to a fifth of its speed (docs/results/ops.md). So each begins 17 cache lines after the one
// before it, with sixteen offsets in rotation.
constexpr std::size_t stagger = 17 * 64, start_positions = 16;

std::size_t round_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

void* allocate_small(std::size_t bytes) {
  const std::size_t capacity = round_up(bytes ? bytes : 1, 64);
  void* memory = std::aligned_alloc(64, capacity);
  if (!memory) throw std::bad_alloc();
  return std::memset(memory, 0, capacity);
}

std::size_t capacity_for(std::size_t bytes) {
  return round_up(bytes + stagger * (start_positions - 1), huge_page);
}

std::size_t next_offset() {
  static std::atomic<std::size_t> count{0};
  return count.fetch_add(1, std::memory_order_relaxed) % start_positions * stagger;
}

// Map a huge page more than needed and return what is before and after the aligned part.
char* map_aligned(std::size_t capacity) {
  void* all = mmap(nullptr, capacity + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) throw std::bad_alloc();
  char* const start = static_cast<char*>(all);
  const std::size_t before = (huge_page - reinterpret_cast<std::uintptr_t>(start) % huge_page) % huge_page;
  if (before) munmap(start, before);
  munmap(start + before + capacity, huge_page - before);
  return start + before;
}

void touch_pages(char* memory, std::size_t bytes) {
  parallel(bytes, small_page * 4, bytes, [=](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; i += small_page) static_cast<volatile char*>(memory)[i] = 0;
  });
}

}  // namespace

void* allocate(std::size_t bytes) {
  if (bytes < huge_page) return allocate_small(bytes);
  char* const pages = map_aligned(capacity_for(bytes));
#if defined(MADV_HUGEPAGE)
  madvise(pages, capacity_for(bytes), MADV_HUGEPAGE);  // advice: small pages are slower, not wrong
#endif
  char* const memory = pages + next_offset();
  touch_pages(memory, bytes);
  return memory;
}

void release(void* memory, std::size_t bytes) {
  if (bytes < huge_page) return std::free(memory);
  char* const start = static_cast<char*>(memory);
  munmap(start - reinterpret_cast<std::uintptr_t>(start) % huge_page, capacity_for(bytes));
}

}  // namespace loosestep
