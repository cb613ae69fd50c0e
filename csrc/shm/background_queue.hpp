// Collectives that run in the background while their rank computes.
//
// A thread of each rank advances them in order, as far as no other rank is late, and sleeps until the late
// rank has published its piece. A thread that waits for a collective runs it itself instead of waking the
// background thread. Only one of the two works at a time, and the order of the additions is the same.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "shm/block_signals.hpp"
#include "shm/collectives.hpp"

namespace loosestep::shm {

class BackgroundQueue {
 public:
  using Number = std::uint64_t;  // calls are counted from 0 on every rank

  explicit BackgroundQueue(Collectives& collectives) : collectives_(collectives) {
    const BlockSignals blocked;
    thread_ = std::thread([this] { run(); });
  }
  ~BackgroundQueue() {
    {
      const std::lock_guard lock(queue_mutex_);
      closing_ = true;
    }
    wakeable_.notify_one();
    thread_.join();
  }
  BackgroundQueue(const BackgroundQueue&) = delete;
  BackgroundQueue& operator=(const BackgroundQueue&) = delete;

  // Let the collectives that are started from now on look for vectors in `arena` (Collectives::use).
  void use(std::shared_ptr<Arena> arena, Forms forms) {
    const std::lock_guard turn(work_mutex_);
    collectives_.use(std::move(arena), std::move(forms));
  }

  // Start a collective without blocking; return its number. The buffers belong to it until it is done.
  Number start(CollectiveArgs args) {
    Number number;
    {
      const std::lock_guard lock(queue_mutex_);
      calls_.push_back(std::move(args));
      number = submitted_++;
    }
    wakeable_.notify_one();
    return number;
  }

  // Block until every call up to `number` is done or the deadline has passed.
  Outcome wait(Number number, Clock::time_point deadline) {
    if (done(number)) return Outcome::done;
    const std::lock_guard turn(work_mutex_);
    if (error_) std::rethrow_exception(error_);
    return advance(number + 1, deadline);
  }

  Number submitted() const {
    const std::lock_guard lock(queue_mutex_);
    return submitted_;
  }
  bool done(Number number) const { return done_.load(std::memory_order_acquire) > number; }

 private:
  // Advance all calls before `end`. Requires work_mutex_.
  Outcome advance(Number end, Clock::time_point deadline) {
    while (!done(end - 1)) {
      if (const Outcome outcome = collectives_.run(next(), deadline); outcome != Outcome::done)
        return outcome;
      const std::lock_guard lock(queue_mutex_);
      calls_.pop_front();
      done_.fetch_add(1, std::memory_order_release);
    }
    return Outcome::done;
  }

  const CollectiveArgs& next() const {
    const std::lock_guard lock(queue_mutex_);
    return calls_.front();  // the reference stays valid while others are added
  }

  void run() {
    AwaitedCounter awaited;
    while (wait_for_work() && advance_available(awaited) != Outcome::aborted)
      if (awaited.counter) awaited.counter->sleep_until(awaited.value, Clock::now() + longest_sleep);
  }

  bool wait_for_work() {
    std::unique_lock lock(queue_mutex_);
    wakeable_.wait(lock, [this] { return closing_ || !calls_.empty(); });
    return !closing_;
  }

  // Advance as far as no rank is late. An error is kept for the thread that waits for the call.
  Outcome advance_available(AwaitedCounter& awaited) {
    const std::lock_guard turn(work_mutex_);
    try {
      const Outcome outcome = advance(submitted(), Clock::now());
      awaited = outcome == Outcome::waiting ? collectives_.awaited() : AwaitedCounter{};
      return outcome;
    } catch (...) {
      error_ = std::current_exception();
      return Outcome::aborted;
    }
  }

  Collectives& collectives_;
  std::mutex work_mutex_;           // guards collectives_: the thread, or one that waits
  std::exception_ptr error_;        // under work_mutex_
  mutable std::mutex queue_mutex_;  // guards the members below; not held while working
  std::condition_variable wakeable_;
  std::deque<CollectiveArgs> calls_;
  Number submitted_ = 0;
  std::atomic<Number> done_{0};
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace loosestep::shm
