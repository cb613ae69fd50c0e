// A lock between processes that survives its holder: the kernel tells the next process that the holder died.
#pragma once

#include <pthread.h>

#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "shm/futex_counter.hpp"
#include "shm/mapping.hpp"

namespace loosestep::shm {

struct OwnerDied : std::runtime_error {
  OwnerDied() : runtime_error("a process died while it was changing this center: its values are lost") {}
};

struct TimedOut : std::runtime_error {
  TimedOut()
      : runtime_error("timed out: another process, which is probably stopped, holds a lock of this center") {}
};

class alignas(64) RobustLock {
 public:
  RobustLock() {
    pthread_mutexattr_t kind;
    require(::pthread_mutexattr_init(&kind));
    require(::pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED));
    require(::pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST));
    require(::pthread_mutex_init(&mutex_, &kind));
    ::pthread_mutexattr_destroy(&kind);
  }

  void lock(Clock::time_point deadline) {
    const int error = try_lock_until(deadline);
    if (error == ETIMEDOUT) throw TimedOut();
    if (error == EOWNERDEAD)
      mark_lost();
    else if (error != 0)
      fail(error, "a lock between processes failed");
    if (lost_) unlock(), throw OwnerDied();
  }

  void unlock() { ::pthread_mutex_unlock(&mutex_); }

 private:
  static void require(int error) {
    if (error != 0) fail(error, "a lock between processes cannot be made");
  }

  // Locks are held for microseconds: poll one whose holder lost its core or was stopped.
  int try_lock_until(Clock::time_point deadline) {
    for (AdaptiveBackoff backoff(true);;) {
      if (const int error = ::pthread_mutex_trylock(&mutex_); error != EBUSY) return error;
      if (backoff.spin()) continue;
      if (Clock::now() >= deadline) return ETIMEDOUT;
      if (backoff.yield()) continue;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }

  // Not by ENOTRECOVERABLE: glibc's trylock keeps such a mutex locked.
  void mark_lost() {
    lost_ = true;
    ::pthread_mutex_consistent(&mutex_);
  }

  pthread_mutex_t mutex_;
  bool lost_ = false;  // under the mutex: a holder died, and the values cannot be repaired
};

}  // namespace loosestep::shm
