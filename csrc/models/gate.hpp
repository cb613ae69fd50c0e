// The disciplines that Hogwild does without; here to be compared with.
// locked: one example at a time. turns: gradients side by side, updates in round robin (Langford, Smola,
// Zinkevich 2009).
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "models/crew.hpp"

namespace loosestep::models {

enum class Discipline { free, locked, turns };

class Gate {
 public:
  Gate(Discipline discipline, int threads, const Crew& crew)
      : discipline_(discipline),
        threads_(threads),
        crew_(crew),
        left_(new std::atomic<bool>[std::size_t(threads)]()) {}

  void read() {
    if (discipline_ == Discipline::locked) mutex_.lock();
  }
  void write(int thread) {
    while (discipline_ == Discipline::turns && turn_.load(std::memory_order_acquire) != thread &&
           !crew_.stopped())
      std::this_thread::yield();
  }
  void done(int thread) {
    if (discipline_ == Discipline::locked) mutex_.unlock();
    if (discipline_ == Discipline::turns) pass_on(thread);
  }
  // No more examples: the others do not wait for this thread's turns.
  void leave(int thread) {
    if (discipline_ != Discipline::turns) return;
    write(thread);
    left_[std::size_t(thread)] = true;
    pass_on(thread);
  }

 private:
  void pass_on(int thread) {
    int next = thread;
    do next = (next + 1) % threads_;
    while (next != thread && left_[std::size_t(next)]);
    turn_.store(next, std::memory_order_release);
  }

  Discipline discipline_;
  int threads_;
  const Crew& crew_;
  std::mutex mutex_;
  std::atomic<int> turn_{0};
  std::unique_ptr<std::atomic<bool>[]> left_;
};

}  // namespace loosestep::models
