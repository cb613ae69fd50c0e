// What the threads of one epoch have in common.
#pragma once

#include <barrier>

#include "models/crew.hpp"
#include "models/gate.hpp"
#include "models/watching.hpp"

namespace loosestep::models {

// Where threads meet in a deterministic epoch; all of them see the same answer to "are we to stop".
class Meeting {
 public:
  Meeting(int threads, const Crew& crew) : crew_(crew), barrier_(threads, Note{this}) {}
  void meet() { barrier_.arrive_and_wait(); }
  bool stopped() const { return stopped_; }

 private:
  struct Note {
    Meeting* meeting;
    void operator()() noexcept { meeting->stopped_ = meeting->crew_.stopped(); }
  };
  const Crew& crew_;
  bool stopped_ = false;
  std::barrier<Note> barrier_;
};

struct Shop {
  Shop(int threads, Discipline discipline)
      : gate(discipline, threads, crew), meeting(threads, crew), clocks(threads) {}
  Crew crew;
  Gate gate;
  Meeting meeting;
  Clocks clocks;
};

}  // namespace loosestep::models
