// Threads that work on one model, while the caller looks whether they are to stop.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace loosestep::models {

class Crew {
 public:
  // Runs work(thread) in every thread and `stop` in the caller, now and then; it says whether to give up.
  // Work looks at stopped() often. What a thread throws stops the others and is thrown again here.
  template <class Work, class Stop> void run(int threads, Work work, Stop stop) {
    running_ = threads;
    std::vector<std::jthread> crew;
    try {
      crew.reserve(static_cast<std::size_t>(threads));
      for (int thread = 0; thread < threads; ++thread)
        crew.emplace_back([this, &work, thread] { attempt(work, thread); });
    } catch (...) {  // no more threads: those that run must not be left
      stopped_ = true;
      throw;
    }
    while (!ended())
      if (stop()) stopped_ = true;
    crew.clear();
    if (error_) std::rethrow_exception(error_);
  }

  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::chrono::milliseconds look{50};

  template <class Work> void attempt(Work& work, int thread) {
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
    one_ended_.notify_one();
  }

  bool ended() {
    std::unique_lock lock(mutex_);
    return one_ended_.wait_for(lock, look, [this] { return running_ == 0; });
  }

  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  std::condition_variable one_ended_;
  int running_ = 0;
  std::exception_ptr error_;
};

}  // namespace loosestep::models
