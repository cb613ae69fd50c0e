// Refuse concurrent calls, with or without the GIL.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

namespace loosestep::bind {

// Refuses a second call of a rank, and close() during a call.
class ExclusiveCall {
 public:
  ExclusiveCall(std::atomic_flag& busy, int rank) : busy_(busy) {
    if (busy_.test_and_set(std::memory_order_acquire))
      throw std::runtime_error("rank " + std::to_string(rank) + " is already in a call on another thread");
  }
  ~ExclusiveCall() { busy_.clear(std::memory_order_release); }
  ExclusiveCall(const ExclusiveCall&) = delete;
  ExclusiveCall& operator=(const ExclusiveCall&) = delete;

 private:
  std::atomic_flag& busy_;
};

// The thread that uses an object, if any. That thread may nest its calls.
using UsingThread = std::atomic<std::thread::id>;

// Refuses the calls of a second thread.
class OneThread {
 public:
  OneThread(UsingThread& user, const char* what) : user_(user) {
    std::thread::id nobody;
    nested_ = user_.load(std::memory_order_relaxed) == std::this_thread::get_id();
    if (!nested_ &&
        !user_.compare_exchange_strong(nobody, std::this_thread::get_id(), std::memory_order_acquire))
      throw std::runtime_error(std::string(what) + " is in use by another thread");
  }
  ~OneThread() {
    if (!nested_) user_.store({}, std::memory_order_release);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  UsingThread& user_;
  bool nested_;
};

}  // namespace loosestep::bind
