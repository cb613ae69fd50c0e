// Recorded workers in virtual time: the order of events, and what each costs, as in transports/simulated/session.py.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "simulated/all_reduce.hpp"
#include "simulated/calendar.hpp"
#include "simulated/mailbox.hpp"
#include "simulated/network.hpp"
#include "simulated/recorded.hpp"
#include "simulated/shards.hpp"
#include "simulated/strand.hpp"

namespace loosestep::simulated {

class Replay {
 public:
  // durations: seconds of a gradient step, by worker and step.
  Replay(const Recorded& recorded, Network& network, Table durations)
      : recorded(recorded), network(network), durations(durations),
        waiting(recorded.program_of.size()), begun(waiting.size()), busy_until(waiting.size(), -1.0), running(waiting.size()),
        shards(network, calendar, now, busy_until), beside(waiting.size()), meetings(waiting.size()) {
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
        default: shards.happen(what);
      }
    }
    for (const Strand& each : mine)
      if (!each.done)
        throw std::runtime_error("worker " + std::to_string(each.worker) + " waits for what no other worker does");
  }

  double done(std::size_t worker) const { return mine[worker].done.value(); }
  double last() const { return now; }  // when all that was started is over, too

  std::uint64_t events = 0;

 private:
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

  // Go on at once, or after a turn with what runs beside a worker that computes.
  void resume(Strand& strand) {
    if (strand.beside && !strand.turned && shards.computes(strand.worker)) {
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
    if (strand.beside) --running[strand.worker];
    if (strand.then) at(now, *strand.then);
  }

  // Return the seconds of a step that begins now.
  double duration(std::uint32_t worker, std::uint32_t step) const {
    return durations(worker, step) * (running[worker] ? 1 + network.prices.contention : 1.0);
  }

  // Return when it is over, or nothing: then another event says so.
  std::optional<double> perform(Strand& strand, const Op& op) {
    const std::uint32_t worker = strand.worker;
    switch (op.kind) {
      case Kind::step: {
        double until = now;
        for (std::uint32_t step = 0; step < op.count; ++step) until += duration(worker, op.index + step);
        return busy_until[worker] = until;
      }
      case Kind::ready:
        if (op.count) {
          begun[worker] = {now, duration(worker, op.index)};
          busy_until[worker] = now + begun[worker].second;
        }
        return std::max(now, begun[worker].first + begun[worker].second * op.value);
      case Kind::exchange: return exchange(strand, program(worker).exchanges[op.index]);
      case Kind::all_reduce: return meet(strand, program(worker).reductions[op.index]), std::nullopt;
      case Kind::push: {
        if (recorded.sharded) return shards.push(strand, op);
        const Sent sent = network.push(worker, op.value, now);
        return op.count & 1 ? sent.arrived + network.to_center[worker] : sent.left;
      }
      case Kind::fetch:
        if (recorded.sharded) return shards.fetch(strand, op);
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
        if (--receiver.missing == 0) at(receiver.received(network.prices), receiver);
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
    return strand.missing ? std::nullopt : std::optional(strand.received(network.prices));
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
    ++running[strand.worker];
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
  std::vector<std::uint32_t> running;  // by worker: how many started communications go on
  Shards shards;
  std::vector<std::map<std::uint32_t, std::unique_ptr<Strand>>> beside;
  std::vector<std::map<std::uint32_t, std::uint32_t>> meetings;  // by worker: how many of each group
};

}  // namespace loosestep::simulated
