// What the threads of one epoch have in common.
#pragma once

#include <barrier>

#include "models/linear/conflict_stats.hpp"
#include "models/linear/update_order.hpp"
#include "models/threads/thread_team.hpp"

namespace loosestep::models {

// Where threads meet in a deterministic epoch; all of them see the same answer to "are we to stop".
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
