// How a rank waits: it spins, then yields, then sleeps until another thread has changed the condition and
// wakes it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace loosestep::shared {

using Clock = std::chrono::steady_clock;

inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Return the time in `seconds` from now; infinity and huge numbers are limited to the clock's range.
inline Clock::time_point deadline_after(double seconds) {
  constexpr double year = 3.2e7;
  const double capped = seconds < 0 ? 0 : (seconds < year ? seconds : year);
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(capped));
}

// Spinning helps only while the awaited thread runs on another core; with more ranks than cores it takes its
// time.
class Backoff {
 public:
  explicit Backoff(bool may_spin) : spins_(may_spin ? 400 : 0) {}

  // Spin or yield once; return false where it is time to sleep.
  bool pause() {
    if (spins_ > 0) {
      --spins_;
      cpu_relax();
      return true;
    }
    if (yields_ == 0) return false;
    --yields_;
    std::this_thread::yield();
    return true;
  }

 private:
  int spins_;
  int yields_ = 4;
};

// One sleeping thread. No wake-up is lost (Dekker's algorithm): the sleeper stores `awaited` and checks the
// condition once more; the waker changes the condition and loads `awaited`. All four operations are
// sequentially consistent, so at least one of the two threads sees the other.
class Parker {
 public:
  static constexpr int no_rank = -1;
  static constexpr int all_ranks = -2;

  int awaited() const { return awaits_.load(std::memory_order_seq_cst); }
  void set_awaited(int whom) { awaits_.store(whom, std::memory_order_seq_cst); }

  void wake() {
    {
      const std::lock_guard lock(mutex_);
      token_ = true;
    }
    wakeable_.notify_one();
  }

  // A token from an earlier wake-up only costs one extra check of the condition.
  void sleep_until(Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    wakeable_.wait_until(lock, deadline, [this] { return token_; });
    token_ = false;
  }

 private:
  std::atomic<int> awaits_{no_rank};
  std::mutex mutex_;
  std::condition_variable wakeable_;
  bool token_ = false;
};

}  // namespace loosestep::shared
