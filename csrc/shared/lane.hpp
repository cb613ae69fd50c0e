// What a team keeps for each rank: how far it has come, and where its thread sleeps.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>

#include "shared/parking.hpp"
#include "shared/slot.hpp"

namespace loosestep::shared {

struct alignas(64) Lane {
  std::atomic<Ticket> posted{0};     // tickets the others can see; the rank itself counts with `next`
  std::atomic<Ticket> completed{0};  // tickets completed
  Ticket next = 0;
  std::atomic_flag busy;
  Parker parker;
};

// One thread per rank: two at once would race on the lane.
class Busy {
 public:
  Busy(Lane& lane, int rank) : lane_(lane) {
    if (lane.busy.test_and_set(std::memory_order_acquire))
      throw std::runtime_error("rank " + std::to_string(rank) + " is already in a call on another thread");
  }
  ~Busy() { lane_.busy.clear(std::memory_order_release); }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  Lane& lane_;
};

}  // namespace loosestep::shared
