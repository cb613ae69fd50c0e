// A stream of recorded requests on the virtual clock, and the events by which it goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "simulated/network.hpp"
#include "simulated/recorded.hpp"

namespace loosestep::simulated {

// One stream of requests: a worker's own, or a script that runs beside it.
struct Strand {
  Strand(std::uint32_t worker, const std::vector<Op>& ops, bool beside)
      : worker(worker), ops(&ops), beside(beside) {}

  std::uint32_t worker;
  const std::vector<Op>* ops;
  bool beside;
  std::size_t next = 0;  // op
  bool waits = false;  // for a communication, since `since`
  double since = 0;
  std::size_t missing = 0;  // messages of the request that it is in
  double arrived = 0;  // when the latest of them is there
  std::size_t messages = 0;  // ... how many are expected, and the bytes of those that are known
  double bytes = 0;
  bool turned = false;  // has waited for the turn of what makes progress while its worker computes
  std::optional<double> done;
  Strand* then = nullptr;  // goes on when this one is done

  // When it has worked off what came for it.
  double received(const Prices& prices) const { return arrived + prices.received(messages, bytes); }
};

enum class Next : std::uint8_t { go_on, ask, answer, read, change, acknowledge };
using Line = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;  // (worker, owner, variable)

struct Event {
  Strand* strand;
  Next next;
  Line line = {};  // of what an owner of a shard is asked for
  double bytes = 0;
  bool turned = false;
};

}  // namespace loosestep::simulated
