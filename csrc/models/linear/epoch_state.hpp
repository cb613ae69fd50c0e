// The state that the threads of one epoch share.
#pragma once

#include <barrier>

#include "models/linear/conflict_stats.hpp"
#include "models/linear/update_order.hpp"
#include "models/threads/thread_team.hpp"

namespace loosestep::models {

// The barrier of a deterministic epoch; stopped() returns the same to all threads.
class StepBarrier {
 public:
  StepBarrier(int threads, const ThreadTeam& team) : team_(team), barrier_(threads, OnCompletion{this}) {}
  void arrive_and_wait() { barrier_.arrive_and_wait(); }
  bool stopped() const { return stopped_; }

 private:
  struct OnCompletion {
    StepBarrier* barrier;
    void operator()() noexcept { barrier->stopped_ = barrier->team_.stopped(); }
  };
  const ThreadTeam& team_;
  bool stopped_ = false;
  std::barrier<OnCompletion> barrier_;
};

struct EpochState {
  EpochState(int threads, Discipline discipline)
      : update_order(discipline, threads, team), barrier(threads, team), counters(threads) {}
  ThreadTeam team;
  UpdateOrder update_order;
  StepBarrier barrier;
  ExampleCounters counters;
};

}  // namespace loosestep::models
