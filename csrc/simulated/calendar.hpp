// Events in virtual time.
#pragma once

#include <cstdint>
#include <queue>
#include <utility>
#include <vector>

namespace loosestep::simulated {

// Returns the earliest event; ties in rank order, then in the order in which they were added.
template <class What> class Calendar {
 public:
  void push(double time, int rank, What what) { events.push({time, rank, pushed++, std::move(what)}); }

  std::pair<double, What> pop() {
    std::pair<double, What> next{events.top().time, events.top().what};
    events.pop();
    return next;
  }

  bool empty() const { return events.empty(); }
  void clear() { events = {}; }

 private:
  struct Event {
    double time;
    int rank;
    std::uint64_t number;
    What what;

    bool operator<(const Event& other) const {  // std::priority_queue returns the largest
      if (time != other.time) return time > other.time;
      if (rank != other.rank) return rank > other.rank;
      return number > other.number;
    }
  };

  std::priority_queue<Event> events;
  std::uint64_t pushed = 0;
};

}  // namespace loosestep::simulated
