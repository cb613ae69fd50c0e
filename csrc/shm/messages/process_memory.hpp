// Reads the memory of other processes of this user, where the system allows it.
#pragma once

#include <sched.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "shm/futex_counter.hpp"

namespace loosestep::shm {

inline constexpr std::uint64_t probe_value = 0x6c6f6f73656e6573;

// Where a process is, in memory that others map.
struct alignas(64) Process {
  Word here{0};  // the rest is written
  std::int64_t pid = 0;
  std::uint64_t probe = 0;  // the address of `probe_value` in its memory
  cpu_set_t cores{};        // on which it may run

  // Describe this process, which keeps `value` where it is.
  void describe(const std::uint64_t& value) {
    pid = ::getpid(), probe = reinterpret_cast<std::uintptr_t>(&value);
    if (::sched_getaffinity(0, sizeof cores, &cores) != 0) CPU_SET(0, &cores);
    here.store(1, std::memory_order_release);
  }

  // Copy bytes from its memory; return how many, 0 if it has ended or may not be read.
  std::size_t read(std::uint64_t address, void* into, std::size_t n) const {
    const iovec own{into, n}, its{reinterpret_cast<void*>(static_cast<std::uintptr_t>(address)), n};
    const ssize_t got = ::process_vm_readv(static_cast<pid_t>(pid), &own, 1, &its, 1, 0);
    return got > 0 ? static_cast<std::size_t>(got) : 0;
  }

  bool may_be_read() const {
    std::uint64_t found = 0;
    return read(probe, &found, sizeof found) == sizeof found && found == probe_value;
  }
};

}  // namespace loosestep::shm
