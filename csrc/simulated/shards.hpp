// Shared variables in shards, one with each worker, as in transports/simulated/shards.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "simulated/calendar.hpp"
#include "simulated/network.hpp"
#include "simulated/recorded.hpp"
#include "simulated/strand.hpp"

namespace loosestep::simulated {

class Shards {
 public:
  // now: the time of what happens; busy_until: by worker, when its latest step is over.
  Shards(Network& network, Calendar<Event>& calendar, const double& now, const std::vector<double>& busy_until)
      : network(network), calendar(calendar), now(now), busy_until(busy_until) {}

  // Whether a worker computes, so that what makes progress beside it has to wait for its turn.
  bool computes(std::uint32_t worker) const { return network.prices.turn > 0 && now <= busy_until[worker]; }

  // Return when it is over, or nothing: then another event says so.
  std::optional<double> fetch(Strand& strand, const Op& op) {
    const auto asked = parts(strand.worker, op.count >> 1, op.value);
    strand.missing = strand.messages = asked.size();
    strand.arrived = now;
    strand.bytes = 0;
    for (const Part& part : asked) {
      const Sent sent = network.send(strand.worker, part.owner, 0, now, asked.size());
      calendar.push(sent.arrived, -1, {&strand, Next::read, {strand.worker, part.owner, op.index}, part.bytes});
    }
    return asked.empty() ? std::optional(now) : std::nullopt;
  }

  std::optional<double> push(Strand& strand, const Op& op) {
    const auto sent = parts(strand.worker, op.count >> 1, op.value);
    strand.missing = 0;
    for (const Part& part : sent) {
      const Line key{strand.worker, part.owner, op.index};
      auto& line = lines[key];
      const bool arrived = op.count & 1, waits = arrived || !line.empty();
      line.push_back({part.bytes, sent.size(), arrived, waits ? &strand : nullptr});
      if (waits) ++strand.missing;
      if (line.size() == 1) send_change(key);
    }
    return strand.missing ? std::nullopt : std::optional(std::max(now, network.injected[strand.worker]));
  }

  void happen(Event& event) {
    if (event.next == Next::read) read(event);
    if (event.next == Next::change) change(event);
    if (event.next == Next::acknowledge) acknowledge(event.line);
  }

 private:
  // What a worker pushes to one owner; the strand that waits for it, if one does.
  struct Change {
    double bytes;
    std::size_t together;
    bool arrived;  // is waited for until it is acknowledged, not only until it is sent
    Strand* strand;
  };

  struct Part {
    std::uint32_t owner;
    double bytes;
  };

  // What each other worker has of a variable of so many values, from the next worker on.
  std::vector<Part> parts(std::uint32_t worker, std::uint64_t values, double bytes) const {
    const std::uint64_t n = busy_until.size();
    std::vector<Part> found;
    for (std::uint64_t hop = 1; hop < n; ++hop) {
      const std::uint64_t owner = (worker + hop) % n, count = values * (owner + 1) / n - values * owner / n;
      if (count)
        found.push_back({static_cast<std::uint32_t>(owner), bytes * static_cast<double>(count) / static_cast<double>(values)});
    }
    return found;
  }

  // Send the first change of a line, where it stays until it is acknowledged.
  void send_change(const Line& key) {
    Change& change = lines.at(key).front();
    const auto [worker, owner, variable] = key;
    const Sent sent = network.send(worker, owner, change.bytes, now, change.together);
    calendar.push(sent.arrived + network.prices.received(1, change.bytes), -1, {nullptr, Next::change, key});
    if (!change.arrived) release(change);
  }

  void release(Change& change) {
    if (change.strand && --change.strand->missing == 0) go_on(now, *change.strand);
    change.strand = nullptr;
  }

  // Let an owner that computes have its turn first, and return whether that is still to come.
  bool later(Event& event) {
    if (event.turned || !computes(std::get<1>(event.line))) return false;
    event.turned = true;
    calendar.push(now + network.prices.turn, -1, event);
    return true;
  }

  void read(Event& event) {
    if (later(event)) return;
    Strand& strand = *event.strand;
    const Sent sent = network.send(std::get<1>(event.line), strand.worker, event.bytes, now);
    strand.arrived = std::max(strand.arrived, sent.arrived);
    strand.bytes += event.bytes;
    if (--strand.missing == 0) go_on(strand.received(network.prices), strand);
  }

  void change(Event& event) {
    if (later(event)) return;
    const auto [worker, owner, variable] = event.line;
    const Sent sent = network.send(owner, worker, 0, now);
    calendar.push(sent.arrived, -1, {nullptr, Next::acknowledge, event.line});
  }

  void acknowledge(const Line& key) {
    auto& line = lines.at(key);
    release(line.front());
    line.pop_front();
    network.center_in = std::max(network.center_in, now);
    if (!line.empty()) send_change(key);
  }

  void go_on(double time, Strand& strand) {
    calendar.push(time, static_cast<int>(strand.worker), {&strand, Next::go_on});
  }

  Network& network;
  Calendar<Event>& calendar;
  const double& now;
  const std::vector<double>& busy_until;
  std::map<Line, std::deque<Change>> lines;
};

}  // namespace loosestep::simulated
