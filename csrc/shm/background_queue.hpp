// Collectives that go on while their rank computes.
//
// A thread of this rank's own advances them, one after the other, as far as nobody is late, and sleeps until
// the rank that is late has put out its piece. Whoever waits for a call does the work himself, so that nobody
// has to be woken; one of the two is at it at a time, and the order of the fold is the same.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "shm/block_signals.hpp"
#include "shm/collectives.hpp"

namespace loosestep::shm {

class BackgroundQueue {
 public:
  using Number = std::uint64_t;  // calls are counted from 0, on every rank

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

  // Never waits for anybody. The buffers belong to the call until it is done.
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

  // Every call up to this one, or as many as the time allows.
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
  // Goes on with all calls before `end`; whoever calls has the turn.
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
    return calls_.front();  // stays where it is while others are added
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

  // What goes wrong is thrown where the call is waited for.
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
  std::mutex work_mutex_;           // of the thread and of whoever waits, on ranks_
  std::exception_ptr error_;        // under turn_
  mutable std::mutex queue_mutex_;  // of what follows; never held while working
  std::condition_variable wakeable_;
  std::deque<CollectiveArgs> calls_;
  Number submitted_ = 0;
  std::atomic<Number> done_{0};
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace loosestep::shm
