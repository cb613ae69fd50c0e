// How a process waits for a counter of another one: it spins, then yields, then sleeps until the owner wakes
// it.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <thread>

#include "shared/wait_policy.hpp"

namespace loosestep::shm {

using shared::Clock;
using Word = std::atomic<std::uint32_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == sizeof(std::uint32_t));

// The longest single sleep: the process that should wake this one may have been killed, and abort() wakes none.
inline constexpr std::chrono::nanoseconds longest_sleep = std::chrono::milliseconds(20);

inline long futex(Word& word, int what, std::uint32_t value, const timespec* timeout) {
  return ::syscall(SYS_futex, &word, what, value, timeout, nullptr,
                   0);  // shared by processes: not the PRIVATE form
}

// A counter of one process that others wait for. No wake-up is lost, as by Parker in shared/wait_policy.hpp;
// the kernel compares the value once more before a thread sleeps.
struct FutexCounter {
  Word value{0};
  Word sleepers{0};

  bool reached(std::uint32_t wanted) const {
    return static_cast<std::int32_t>(value.load(std::memory_order_acquire) - wanted) >=
           0;  // correct also after an overflow
  }

  void advance() {
    value.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) > 0) futex(value, FUTEX_WAKE, INT32_MAX, nullptr);
  }

  void sleep_until(std::uint32_t wanted, Clock::time_point deadline) {
    using std::chrono::nanoseconds;
    const auto left = std::chrono::duration_cast<nanoseconds>(deadline - Clock::now());
    const timespec timeout{0, std::clamp(left, nanoseconds(0), longest_sleep).count()};
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    const std::uint32_t seen = value.load(std::memory_order_seq_cst);
    if (static_cast<std::int32_t>(seen - wanted) < 0) futex(value, FUTEX_WAIT, seen, &timeout);
    sleepers.fetch_sub(1, std::memory_order_relaxed);
  }
};

// Spinning is fastest while the awaited process runs on another core, and a waste while it waits for this
// one: the number of spins is halved after they were in vain, and doubled after they were not.
class AdaptiveBackoff {
 public:
  explicit AdaptiveBackoff(bool may_spin)
      : most_(may_spin ? 512 : 0), spins_(most_), yields_(may_spin ? 100 : 3) {}

  void begin() { tried_ = 0; }

  // Spin once; return false where the caller should check the clock and then yield() or sleep.
  bool spin() {
    if (tried_ >= spins_) return false;
    return ++tried_, shared::cpu_relax(), true;
  }

  bool yield() {
    if (tried_ >= spins_ + yields_) return false;
    return ++tried_, std::this_thread::yield(), true;
  }

  void end() {
    if (tried_ > spins_)
      spins_ = std::max(spins_ / 2, most_ / 32);
    else if (tried_ > 0)
      spins_ = std::min(2 * spins_, most_);
  }

 private:
  int most_, spins_, yields_, tried_ = 0;
};

}  // namespace loosestep::shm
