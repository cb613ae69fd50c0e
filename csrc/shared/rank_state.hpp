// The state of one rank in a team: its counters of tickets, and where its thread sleeps.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>

#include "shared/slot.hpp"
#include "shared/wait_policy.hpp"

namespace loosestep::shared {

struct alignas(64) RankState {
  std::atomic<Ticket> posted{0};  // visible to the others; the rank itself counts with `next`
  std::atomic<Ticket> completed{0};
  Ticket next = 0;
  std::atomic_flag busy;
  Parker parker;
};

// Ensures that a rank calls from one thread at a time: two would race on its state.
class CallGuard {
 public:
  CallGuard(RankState& state, int rank) : state_(state) {
    if (state.busy.test_and_set(std::memory_order_acquire))
      throw std::runtime_error("rank " + std::to_string(rank) + " is already in a call on another thread");
  }
  ~CallGuard() { state_.busy.clear(std::memory_order_release); }
  CallGuard(const CallGuard&) = delete;
  CallGuard& operator=(const CallGuard&) = delete;

 private:
  RankState& state_;
};

inline std::string too_many_tickets(int rank, Ticket outstanding) {
  return "rank " + std::to_string(rank) + " has " + std::to_string(outstanding) +
         " uncompleted tickets, the most this team allows: complete one before posting more";
}

inline std::string never_posted(int rank, Ticket ticket) {
  return "rank " + std::to_string(rank) + " has posted no ticket " + std::to_string(ticket);
}

}  // namespace loosestep::shared
