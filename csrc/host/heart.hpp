// The sign of life of a process: a thread that knows no Python writes the time into this rank's lane. It goes
// on while the process is in a long computation and stops when the process is stopped or killed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>

#include "host/layout.hpp"
#include "host/quiet.hpp"

namespace loosestep::host {

inline std::int64_t now() {  // CLOCK_MONOTONIC: the same clock for all processes of a host
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

// Seconds since a lane's last beat; infinity for a rank that never came.
inline double beat_age(const Lane& lane) {
  const std::int64_t last = lane.beaten.load(std::memory_order_relaxed);
  if (last == 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(std::max<std::int64_t>(now() - last, 0)) * 1e-9;
}

class Heart {
 public:
  explicit Heart(Lane& lane) : lane_(lane) {
    beat();
    const QuietSignals quiet;
    thread_ = std::thread([this] { go_on(); });
  }
  ~Heart() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    wakeable_.notify_one();
    thread_.join();
  }
  Heart(const Heart&) = delete;
  Heart& operator=(const Heart&) = delete;

 private:
  static constexpr std::chrono::milliseconds period{200};

  void beat() {
    lane_.beaten.store(now(), std::memory_order_relaxed);
    lane_.beats.fetch_add(1, std::memory_order_relaxed);
  }

  void go_on() {
    for (std::unique_lock lock(mutex_); !wakeable_.wait_for(lock, period, [this] { return over_; });) beat();
  }

  Lane& lane_;
  std::mutex mutex_;
  std::condition_variable wakeable_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace loosestep::host
