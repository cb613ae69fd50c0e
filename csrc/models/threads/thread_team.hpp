// Threads that work on one model while the calling thread checks whether to stop.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace loosestep::models {

class ThreadTeam {
 public:
  // Run work(thread) in every thread and call `stop` from time to time in the calling one, until it returns
  // true. `work` must check stopped() often. An exception in a thread stops the others and is rethrown here.
  template <class Work, class Stop> void run(int threads, Work work, Stop stop) {
    running_ = threads;
    std::vector<std::jthread> team;
    try {
      team.reserve(static_cast<std::size_t>(threads));
      for (int thread = 0; thread < threads; ++thread)
        team.emplace_back([this, &work, thread] { run_one(work, thread); });
    } catch (...) {  // no more threads: stop those that run
      stopped_ = true;
      throw;
    }
    while (!wait_until_ended())
      if (stop()) stopped_ = true;
    team.clear();
    if (error_) std::rethrow_exception(error_);
  }

  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::chrono::milliseconds poll_interval{50};

  template <class Work> void run_one(Work& work, int thread) {
    std::exception_ptr error;
    try {
      work(thread);
    } catch (...) {
      error = std::current_exception();
      stopped_ = true;
    }
    const std::lock_guard lock(mutex_);
    if (error && !error_) error_ = error;
    --running_;
    thread_ended_.notify_one();
  }

  bool wait_until_ended() {
    std::unique_lock lock(mutex_);
    return thread_ended_.wait_for(lock, poll_interval, [this] { return running_ == 0; });
  }

  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  std::condition_variable thread_ended_;
  int running_ = 0;
  std::exception_ptr error_;
};

}  // namespace loosestep::models
