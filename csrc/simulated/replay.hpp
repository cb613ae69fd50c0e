// Recorded workers in virtual time: the order of events, and what each costs, as in transports/simulated/session.py.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "simulated/all_reduce.hpp"
#include "simulated/calendar.hpp"
#include "simulated/mailbox.hpp"
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
};

class Replay {
 public:
  // durations: seconds of a gradient step, by worker and step.
  Replay(const Recorded& recorded, Network& network, Table durations)
      : recorded(recorded), network(network), durations(durations),
        waiting(recorded.program_of.size()), begun(waiting.size()), busy_until(waiting.size(), -1.0),
        beside(waiting.size()), meetings(waiting.size()) {
    mine.reserve(waiting.size());
    for (std::uint32_t worker = 0; worker < waiting.size(); ++worker) {
      mine.emplace_back(worker, program(worker).scripts.at(0), false);
      calendar.push(0, static_cast<int>(worker), {&mine.back(), Next::go_on});
    }
  }

  // Go through all events, until stop() says so now and then.
  template <class Stop> void run(const Stop& stop) {
    while (!calendar.empty()) {
      if ((++events & 0xfffff) == 0 && stop()) return;
      auto [time, what] = calendar.pop();
      now = time;
      switch (what.next) {
        case Next::go_on: resume(*what.strand); break;
        case Next::ask: ask(*what.strand); break;
        case Next::answer: answer(*what.strand); break;
        case Next::read: read_shard(what); break;
        case Next::change: change_shard(what); break;
        case Next::acknowledge: acknowledge(what.line); break;
      }
    }
    for (const Strand& each : mine)
      if (!each.done)
        throw std::runtime_error("worker " + std::to_string(each.worker) + " waits for what no other worker does");
  }

  double done(std::size_t worker) const { return mine[worker].done.value(); }

  std::uint64_t events = 0;

 private:
  enum class Next : std::uint8_t { go_on, ask, answer, read, change, acknowledge };
  using Line = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;  // (worker, owner, variable)

  struct Event {
    Strand* strand;
    Next next;
    Line line = {};  // of what an owner of a shard is asked for
    double bytes = 0;
    bool turned = false;
  };

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

  struct Meeting {
    explicit Meeting(std::size_t members) : missing(members), strands(members), arrivals(members) {}

    std::size_t missing;
    std::vector<Strand*> strands;  // in rank order
    std::vector<double> arrivals;
  };

  const Program& program(std::uint32_t worker) const { return recorded.programs[recorded.program_of[worker]]; }

  void at(double time, Strand& strand) {
    calendar.push(time, static_cast<int>(strand.worker), {&strand, Next::go_on});
  }

  // Whether a worker computes, so that what makes progress beside it has to wait for its turn.
  bool computes(std::uint32_t worker) const { return network.prices.turn > 0 && now <= busy_until[worker]; }

  // Go on at once, or after a turn with what runs beside a worker that computes.
  void resume(Strand& strand) {
    if (strand.beside && !strand.turned && computes(strand.worker)) {
      strand.turned = true;
      return at(now + network.prices.turn, strand);
    }
    strand.turned = false;
    go_on(strand);
  }

  // Perform requests until one takes time or must wait.
  void go_on(Strand& strand) {
    if (strand.waits && !strand.beside) waiting[strand.worker] += now - strand.since;
    strand.waits = false;
    while (strand.next < strand.ops->size()) {
      const Op& op = (*strand.ops)[strand.next];
      ++strand.next;
      const std::optional<double> until = perform(strand, op);
      if (until && *until <= now) continue;
      strand.waits = op.kind != Kind::step && op.kind != Kind::ready && op.kind != Kind::update;
      strand.since = now;
      if (until) at(*until, strand);
      return;
    }
    strand.done = now;
    if (strand.then) at(now, *strand.then);
  }

  // Return when it is over, or nothing: then another event says so.
  std::optional<double> perform(Strand& strand, const Op& op) {
    const std::uint32_t worker = strand.worker;
    switch (op.kind) {
      case Kind::step: {
        double until = now;
        for (std::uint32_t step = 0; step < op.count; ++step) until += durations(worker, op.index + step);
        return busy_until[worker] = until;
      }
      case Kind::ready:
        if (op.count) {
          begun[worker] = {now, durations(worker, op.index)};
          busy_until[worker] = now + begun[worker].second;
        }
        return std::max(now, begun[worker].first + begun[worker].second * op.value);
      case Kind::exchange: return exchange(strand, program(worker).exchanges[op.index]);
      case Kind::all_reduce: return meet(strand, program(worker).reductions[op.index]), std::nullopt;
      case Kind::push: {
        if (recorded.sharded) return push_shards(strand, op);
        const Sent sent = network.push(worker, op.value, now);
        return op.count & 1 ? sent.arrived + network.to_center[worker] : sent.left;
      }
      case Kind::fetch:
        if (recorded.sharded) return fetch_shards(strand, op);
        calendar.push(network.asked(worker, now), -1, {&strand, Next::ask}); return std::nullopt;
      case Kind::sleep:
      case Kind::update: return now + op.value;
      case Kind::start: return start(strand, op), std::max(now, network.injected[worker]);
      case Kind::wait: return wait(strand, op);
    }
    throw std::logic_error("no such request");
  }

  std::optional<double> exchange(Strand& strand, const Exchange& asked) {
    const Program& mine_ = program(strand.worker);
    strand.missing = 0;
    strand.arrived = now;
    strand.messages = asked.last_receive - asked.first_receive;
    strand.bytes = 0;
    const std::size_t together = asked.last_send - asked.first_send;
    for (std::uint32_t i = asked.first_send; i < asked.last_send; ++i) {
      const Message& message = mine_.sends[i];
      const Sent sent = network.send(strand.worker, message.to, message.bytes, now, together);
      strand.arrived = std::max(strand.arrived, sent.left);
      const Address address{strand.worker, message.to, asked.tag};
      if (const auto waits_for = receivers.take(address)) {
        Strand& receiver = **waits_for;
        receiver.arrived = std::max(receiver.arrived, sent.arrived);
        receiver.bytes += message.bytes;
        if (--receiver.missing == 0) at(received(receiver), receiver);
      } else {
        messages.put(address, {sent.arrived, message.bytes});
      }
    }
    for (std::uint32_t i = asked.first_receive; i < asked.last_receive; ++i) {
      const Address address{mine_.receives[i], strand.worker, asked.tag};
      if (const auto come = messages.take(address)) {
        strand.arrived = std::max(strand.arrived, come->first);
        strand.bytes += come->second;
      } else {
        ++strand.missing;
        receivers.put(address, &strand);
      }
    }
    return strand.missing ? std::nullopt : std::optional(received(strand));
  }

  // When a strand has worked off what came for it.
  double received(const Strand& strand) const {
    return strand.arrived + network.prices.received(strand.messages, strand.bytes);
  }

  // --- a center in shards, one of them with each worker ------------------------------------------------------

  // What each other worker has of a variable of so many values, from the next worker on.
  std::vector<Part> parts(std::uint32_t worker, std::uint64_t values, double bytes) const {
    const std::uint64_t n = waiting.size();
    std::vector<Part> found;
    for (std::uint64_t hop = 1; hop < n; ++hop) {
      const std::uint64_t owner = (worker + hop) % n, count = values * (owner + 1) / n - values * owner / n;
      if (count)
        found.push_back({static_cast<std::uint32_t>(owner), bytes * static_cast<double>(count) / static_cast<double>(values)});
    }
    return found;
  }

  std::optional<double> fetch_shards(Strand& strand, const Op& op) {
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

  std::optional<double> push_shards(Strand& strand, const Op& op) {
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

  // Send the first change of a line, where it stays until it is acknowledged.
  void send_change(const Line& key) {
    Change& change = lines.at(key).front();
    const auto [worker, owner, variable] = key;
    const Sent sent = network.send(worker, owner, change.bytes, now, change.together);
    calendar.push(sent.arrived + network.prices.received(1, change.bytes), -1, {nullptr, Next::change, key});
    if (!change.arrived) release(change);
  }

  void release(Change& change) {
    if (change.strand && --change.strand->missing == 0) at(now, *change.strand);
    change.strand = nullptr;
  }

  // Let an owner that computes have its turn first, and return whether that is still to come.
  bool later(Event& event) {
    if (event.turned || !computes(std::get<1>(event.line))) return false;
    event.turned = true;
    calendar.push(now + network.prices.turn, -1, event);
    return true;
  }

  void read_shard(Event& event) {
    if (later(event)) return;
    Strand& strand = *event.strand;
    const Sent sent = network.send(std::get<1>(event.line), strand.worker, event.bytes, now);
    strand.arrived = std::max(strand.arrived, sent.arrived);
    strand.bytes += event.bytes;
    if (--strand.missing == 0) at(received(strand), strand);
  }

  void change_shard(Event& event) {
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

  // Wait for all members; each goes on by the messages of its form.
  void meet(Strand& strand, const AllReduce& asked) {
    const auto& group = recorded.groups[asked.group];
    const std::pair<std::uint32_t, std::uint32_t> key{asked.group, meetings[strand.worker][asked.group]++};
    const auto found = posted.try_emplace(key, group.size()).first;
    Meeting& meeting = found->second;
    const auto member = std::lower_bound(group.begin(), group.end(), strand.worker);
    if (member == group.end() || *member != strand.worker)
      throw std::invalid_argument("worker " + std::to_string(strand.worker) + " is not of the group that it meets");
    const auto place = static_cast<std::size_t>(member - group.begin());
    meeting.strands[place] = &strand;
    meeting.arrivals[place] = now;
    if (--meeting.missing) return;
    const std::vector<double> over = all_reduce(network, asked, group, meeting.arrivals);
    for (std::size_t i = 0; i < group.size(); ++i) at(over[i], *meeting.strands[i]);
    posted.erase(found);
  }

  void start(Strand& strand, const Op& op) {
    auto child = std::make_unique<Strand>(strand.worker, program(strand.worker).scripts.at(op.index), true);
    Strand& begun_ = *child;
    beside[strand.worker][op.count] = std::move(child);
    go_on(begun_);
  }

  std::optional<double> wait(Strand& strand, const Op& op) {
    auto& running = beside[strand.worker];
    const auto found = running.find(op.count);
    if (found == running.end()) throw std::logic_error("a wait for what was not started");
    Strand& child = *found->second;
    if (!child.done) {
      child.then = &strand;
      return std::nullopt;  // it stays until the replay ends: its event refers to it
    }
    const double over = std::max(now, *child.done);
    running.erase(found);
    return over;
  }

  // A request of a worker is at the center, whose link may be busy.
  void ask(Strand& strand) {
    const double bytes = (*strand.ops)[strand.next - 1].value;
    const auto [begin, left] = network.pull(bytes, now);
    strand.arrived = left;
    if (begin > now) return calendar.push(begin, -1, {&strand, Next::answer});
    answer(strand);
  }

  void answer(Strand& strand) { at(strand.arrived + network.to_center[strand.worker], strand); }

  const Recorded& recorded;
  Network& network;
  Table durations;
  Calendar<Event> calendar;
  double now = 0;
  std::vector<Strand> mine;
  Mailbox<std::pair<double, double>> messages;  // (when they are there, bytes)
  Mailbox<Strand*> receivers;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Meeting> posted;

 public:
  std::vector<double> waiting;  // by worker: seconds

 private:
  std::vector<std::pair<double, double>> begun;  // by worker: when its step began, and how long it takes
  std::vector<double> busy_until;  // by worker: when its latest step is over
  std::map<Line, std::deque<Change>> lines;
  std::vector<std::map<std::uint32_t, std::unique_ptr<Strand>>> beside;
  std::vector<std::map<std::uint32_t, std::uint32_t>> meetings;  // by worker: how many of each group
};

}  // namespace loosestep::simulated
