// The simulated network, and the replay of what workers have asked for.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <tuple>
#include <vector>

#include "bind/python/interruptible.hpp"
#include "bind/simulated/network.hpp"
#include "simulated/replay.hpp"

namespace py = pybind11;
using namespace loosestep::simulated;
using loosestep::bind::BoundNetwork;
using loosestep::bind::table_of;

namespace {

using Ops = std::vector<std::tuple<std::uint8_t, std::uint32_t, std::uint32_t, double>>;
using GivenProgram =
    std::tuple<std::vector<Ops>, std::vector<std::pair<std::uint32_t, double>>, std::vector<std::uint32_t>,
               std::vector<std::tuple<std::uint64_t, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>>,
               std::vector<std::tuple<std::uint64_t, std::uint32_t, bool, bool, std::uint32_t>>>;

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// Return what one worker asks for, all of whose indices are inside.
Program program_of(const GivenProgram& given, std::size_t workers, std::size_t groups) {
  const auto& [scripts, sends, receives, exchanges, reductions] = given;
  Program made;
  require(!scripts.empty(), "a program needs a script");
  for (const auto& [to, bytes] : sends) {
    require(to < workers, "a message goes to no worker");
    made.sends.push_back({to, bytes});
  }
  for (const std::uint32_t source : receives) require(source < workers, "a message comes from no worker");
  made.receives = receives;
  for (const auto& [tag, first_send, last_send, first_receive, last_receive] : exchanges) {
    require(last_send <= sends.size() && last_receive <= receives.size(), "an exchange has messages of no program");
    made.exchanges.push_back({tag, first_send, last_send, first_receive, last_receive});
  }
  for (const auto& [elements, itemsize, whole, at_once, group] : reductions) {
    require(group < groups, "an allreduce is of no group");
    made.reductions.push_back({elements, itemsize, whole, at_once, group});
  }
  for (const Ops& ops : scripts) {
    made.scripts.emplace_back();
    for (const auto& [kind, index, count, value] : ops) {
      require(kind <= static_cast<std::uint8_t>(Kind::update), "no such request");
      const Kind known = static_cast<Kind>(kind);
      const std::size_t most = known == Kind::exchange     ? exchanges.size()
                               : known == Kind::all_reduce ? reductions.size()
                               : known == Kind::start      ? scripts.size()
                                                           : UINT32_MAX;
      require(index < most, "a request is of no program");
      made.scripts.back().push_back({known, index, count, value});
    }
  }
  return made;
}

py::tuple replay(BoundNetwork& network, const std::vector<GivenProgram>& programs, std::vector<std::uint32_t> programs_of,
                 std::vector<std::vector<std::uint32_t>> groups, const py::array_t<double>& durations, bool sharded) {
  const std::size_t workers = programs_of.size();
  require(static_cast<py::ssize_t>(workers) == network.size, "the network has another number of workers");
  Recorded recorded{{}, std::move(programs_of), std::move(groups), sharded};
  for (const GivenProgram& each : programs)
    recorded.programs.push_back(program_of(each, workers, recorded.groups.size()));
  std::uint32_t steps = 0;
  for (const Program& program : recorded.programs)
    for (const auto& ops : program.scripts)
      for (const Op& op : ops)
        if (op.kind == Kind::step || (op.kind == Kind::ready && op.count)) steps = std::max(steps, op.index + op.count);
  for (const std::uint32_t each : recorded.program_of) require(each < recorded.programs.size(), "no such program");
  require(durations.ndim() == 2 && durations.shape(1) >= static_cast<py::ssize_t>(steps), "durations are missing");
  const Table table = table_of(durations, network.size, durations.shape(1));
  Replay replayed(recorded, network.network, table);
  loosestep::bind::interruptible([&](auto stop) {
    replayed.run(stop);
    return 0;
  });
  py::array_t<double> done(static_cast<py::ssize_t>(workers)), waiting(static_cast<py::ssize_t>(workers));
  for (std::size_t worker = 0; worker < workers; ++worker) {
    done.mutable_at(worker) = replayed.done(worker);
    waiting.mutable_at(worker) = replayed.waiting[worker];
  }
  return py::make_tuple(done, waiting, replayed.events, replayed.last());
}

}  // namespace

void bind_replay(py::module_& m) {
  py::class_<BoundNetwork>(m, "Network")
      .def(py::init([](py::array_t<double> latency, py::array_t<double> bandwidth, std::vector<double> to_center,
                       std::vector<double> worker_bandwidth, double center_bandwidth, double header, double send,
                       double receive, double copy, double turn, double contention, double inbound,
                       std::vector<std::vector<std::pair<double, double>>> lag, std::vector<std::uint32_t> host_of) {
             Prices prices{header, send, receive, copy, turn, contention, inbound, std::move(lag), std::move(host_of)};
             return std::make_unique<BoundNetwork>(std::move(latency), std::move(bandwidth), std::move(to_center),
                                                   std::move(worker_bandwidth), center_bandwidth, std::move(prices));
           }),
           py::arg("latency").noconvert(), py::arg("bandwidth").noconvert(), py::arg("to_center"),
           py::arg("worker_bandwidth"), py::arg("center_bandwidth"), py::kw_only(), py::arg("header") = 0.0,
           py::arg("send") = 0.0, py::arg("receive") = 0.0, py::arg("copy") = 0.0, py::arg("turn") = 0.0,
           py::arg("contention") = 0.0,
           py::arg("inbound") = std::numeric_limits<double>::infinity(),
           py::arg("lag") = std::vector<std::vector<std::pair<double, double>>>{},
           py::arg("host_of") = std::vector<std::uint32_t>{})
      .def_property(
          "center_in", [](const BoundNetwork& self) { return self.network.center_in; },
          [](BoundNetwork& self, double time) { self.network.center_in = time; })
      .def("send",
           [](BoundNetwork& self, std::size_t source, std::size_t to, double bytes, double now, std::size_t together) {
             self.require(source);
             self.require(to);
             const Sent sent = self.network.send(source, to, bytes, now, together);
             return std::pair(sent.left, sent.arrived);
           },
           py::arg("source"), py::arg("to"), py::arg("nbytes"), py::arg("now"), py::arg("together") = 1)
      .def(
          "injected",
          [](const BoundNetwork& self, std::size_t source) {
            self.require(source);
            return self.network.injected[source];
          },
          py::arg("source"))
      .def(
          "received",
          [](const BoundNetwork& self, std::size_t messages, double bytes) {
            return self.network.prices.received(messages, bytes);
          },
          py::arg("messages"), py::arg("nbytes"))
      .def("push",
           [](BoundNetwork& self, std::size_t source, double bytes, double now) {
             self.require(source);
             const Sent sent = self.network.push(source, bytes, now);
             return std::pair(sent.left, sent.arrived);
           },
           py::arg("source"), py::arg("nbytes"), py::arg("now"))
      .def(
          "asked",
          [](const BoundNetwork& self, std::size_t source, double now) {
            self.require(source);
            return self.network.asked(source, now);
          },
          py::arg("source"), py::arg("now"))
      .def(
          "pull", [](BoundNetwork& self, double bytes, double now) { return self.network.pull(bytes, now); },
          py::arg("nbytes"), py::arg("now"))
      .def("all_reduce",
           [](BoundNetwork& self, std::uint64_t elements, std::uint32_t itemsize, const std::vector<std::uint32_t>& ranks,
              const std::vector<double>& arrivals, bool whole, bool at_once) {
             for (const std::uint32_t rank : ranks) self.require(rank);
             if (arrivals.size() != ranks.size()) throw std::invalid_argument("a rank has no arrival");
             return all_reduce(self.network, {elements, itemsize, whole, at_once}, ranks, arrivals);
           },
           py::arg("elements"), py::arg("itemsize"), py::arg("ranks"), py::arg("arrivals"), py::kw_only(),
           py::arg("whole"), py::arg("at_once"));
  m.def("replay", &replay, py::arg("network"), py::arg("programs"), py::arg("program_of"), py::arg("groups"),
        py::arg("durations").noconvert(), py::kw_only(), py::arg("sharded") = false);
}
