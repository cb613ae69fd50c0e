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

#include "host/quiet.hpp"
#include "host/ranks.hpp"

namespace loosestep::host {

class Started {
 public:
  using Number = std::uint64_t;  // calls are counted from 0, on every rank

  explicit Started(Ranks& ranks) : ranks_(ranks) {
    const QuietSignals quiet;
    thread_ = std::thread([this] { go_on(); });
  }
  ~Started() {
    {
      const std::lock_guard lock(queue_);
      over_ = true;
    }
    wakeable_.notify_one();
    thread_.join();
  }
  Started(const Started&) = delete;
  Started& operator=(const Started&) = delete;

  // Never waits for anybody. The buffers belong to the call until it is done.
  Number start(Post post) {
    Number number;
    {
      const std::lock_guard lock(queue_);
      posts_.push_back(std::move(post));
      number = begun_++;
    }
    wakeable_.notify_one();
    return number;
  }

  // Every call up to this one, or as many as the time allows.
  Outcome wait(Number number, Clock::time_point deadline) {
    if (done(number)) return Outcome::done;
    const std::lock_guard turn(turn_);
    if (broken_) std::rethrow_exception(broken_);
    return advance(number + 1, deadline);
  }

  Number begun() const {
    const std::lock_guard lock(queue_);
    return begun_;
  }
  bool done(Number number) const { return done_.load(std::memory_order_acquire) > number; }

 private:
  // Goes on with all calls before `end`; whoever calls has the turn.
  Outcome advance(Number end, Clock::time_point deadline) {
    while (!done(end - 1)) {
      if (const Outcome outcome = ranks_.run(next(), deadline); outcome != Outcome::done) return outcome;
      const std::lock_guard lock(queue_);
      posts_.pop_front();
      done_.fetch_add(1, std::memory_order_release);
    }
    return Outcome::done;
  }

  const Post& next() const {
    const std::lock_guard lock(queue_);
    return posts_.front();  // stays where it is while others are added
  }

  void go_on() {
    Late late;
    while (has_work() && advance_unless_late(late) != Outcome::aborted)
      if (late.other) late.other->sleep_until(late.number, Clock::now() + longest_sleep);
  }

  bool has_work() {
    std::unique_lock lock(queue_);
    wakeable_.wait(lock, [this] { return over_ || !posts_.empty(); });
    return !over_;
  }

  // What goes wrong is thrown where the call is waited for.
  Outcome advance_unless_late(Late& late) {
    const std::lock_guard turn(turn_);
    try {
      const Outcome outcome = advance(begun(), Clock::now());
      late = outcome == Outcome::waiting ? ranks_.late() : Late{};
      return outcome;
    } catch (...) {
      broken_ = std::current_exception();
      return Outcome::aborted;
    }
  }

  Ranks& ranks_;
  std::mutex turn_;            // of the thread and of whoever waits, on ranks_
  std::exception_ptr broken_;  // under turn_
  mutable std::mutex queue_;   // of what follows; never held while working
  std::condition_variable wakeable_;
  std::deque<Post> posts_;
  Number begun_ = 0;
  std::atomic<Number> done_{0};
  bool over_ = false;
  std::thread thread_;
};

}  // namespace loosestep::host
