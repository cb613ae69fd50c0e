// The heartbeat of a process for the others of its host: a thread outside Python writes the time into this
// rank's record. It continues during a long computation and stops when the process is stopped or killed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>

#include "shm/block_signals.hpp"
#include "shm/layout.hpp"

namespace loosestep::shm {

inline std::int64_t now() {  // CLOCK_MONOTONIC: the same clock in all processes of a host
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

// Return the seconds since a rank's last heartbeat, or infinity for a rank that never started.
inline double beat_age(const RankRecord& record) {
  const std::int64_t last = record.last_beat.load(std::memory_order_relaxed);
  if (last == 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(std::max<std::int64_t>(now() - last, 0)) * 1e-9;
}

class ShmHeartbeat {
 public:
  explicit ShmHeartbeat(RankRecord& record) : record_(record) {
    beat();
    const BlockSignals blocked;
    thread_ = std::thread([this] { run(); });
  }
  ~ShmHeartbeat() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wakeable_.notify_one();
    thread_.join();
  }
  ShmHeartbeat(const ShmHeartbeat&) = delete;
  ShmHeartbeat& operator=(const ShmHeartbeat&) = delete;

 private:
  static constexpr std::chrono::milliseconds period{200};

  void beat() {
    record_.last_beat.store(now(), std::memory_order_relaxed);
    record_.beats.fetch_add(1, std::memory_order_relaxed);
  }

  void run() {
    for (std::unique_lock lock(mutex_); !wakeable_.wait_for(lock, period, [this] { return closing_; });)
      beat();
  }

  RankRecord& record_;
  std::mutex mutex_;
  std::condition_variable wakeable_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace loosestep::shm
