// Orders of updates that Hogwild does without, for comparison. locked: one example at a time. turns:
// gradients in parallel, updates in round-robin order (Langford, Smola, Zinkevich 2009).
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "models/threads/thread_team.hpp"

namespace loosestep::models {

enum class Discipline { free, locked, turns };

class UpdateOrder {
 public:
  UpdateOrder(Discipline discipline, int threads, const ThreadTeam& team)
      : discipline_(discipline),
        threads_(threads),
        team_(team),
        left_(new std::atomic<bool>[std::size_t(threads)]()) {}

  void before_read() {
    if (discipline_ == Discipline::locked) mutex_.lock();
  }
  void before_write(int thread) {
    while (discipline_ == Discipline::turns && next_thread_.load(std::memory_order_acquire) != thread &&
           !team_.stopped())
      std::this_thread::yield();
  }
  void after_write(int thread) {
    if (discipline_ == Discipline::locked) mutex_.unlock();
    if (discipline_ == Discipline::turns) pass_turn(thread);
  }
  // Take no more turns: the others do not wait for this thread.
  void leave(int thread) {
    if (discipline_ != Discipline::turns) return;
    before_write(thread);
    left_[std::size_t(thread)] = true;
    pass_turn(thread);
  }

 private:
  void pass_turn(int thread) {
    int next = thread;
    do next = (next + 1) % threads_;
    while (next != thread && left_[std::size_t(next)]);
    next_thread_.store(next, std::memory_order_release);
  }

  Discipline discipline_;
  int threads_;
  const ThreadTeam& team_;
  std::mutex mutex_;
  std::atomic<int> next_thread_{0};
  std::unique_ptr<std::atomic<bool>[]> left_;
};

}  // namespace loosestep::models
