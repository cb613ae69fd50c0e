// The binding of Team: checks, and references to the arrays of open collectives.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "bind/python/gil.hpp"
#include "bind/shared/collective_args.hpp"

namespace loosestep::bind {

using shared::Ticket;

class Team {
 public:
  Team(int size, int outstanding)
      : core_(at_least_one(size, "size"), at_least_one(outstanding, "outstanding")),
        outstanding_(outstanding),
        held_(core_.slots() * static_cast<std::size_t>(size)) {}

  int size() const { return core_.size(); }
  int outstanding() const { return outstanding_; }

  Ticket all_reduce(int rank, const py::object& buf, const std::string& op, double weight) {
    return enter(rank, all_reduce_args(buf, op, weight), buf);
  }

  Ticket broadcast(int rank, const py::object& buf, int root) {
    return enter(rank, broadcast_args(buf, root, rank, size()), buf);
  }

  Ticket all_gather(int rank, const py::object& piece, const py::object& out) {
    check_rank(rank, "rank");
    return enter(rank, all_gather_args(piece, out, rank, size()), py::make_tuple(piece, out));
  }

  Ticket barrier(int rank) { return enter(rank, CollectiveArgs{}, py::none()); }

  Ticket mix(int rank, const py::object& buf, const py::object& scratch, std::vector<int> ranks,
             std::vector<double> weights, std::vector<int> readers) {
    check_rank(rank, "rank");
    const Array array = writable_array(buf, "buf"), space = writable_array(scratch, "scratch");
    require_dtype(space, "scratch", array.dtype, "buf");
    require_size(space, "scratch", array.size, "as many as buf");
    if (shared::overlap(array.data, array.bytes(), space.data, space.bytes()))
      refuse("scratch", "outside buf");
    CollectiveArgs args = args_of(Kind::mix, array);
    args.other = space.data;
    std::erase(readers, rank);
    check_edges(ranks, weights, readers);
    args.ranks = std::move(ranks), args.weights = std::move(weights), args.readers = std::move(readers);
    return enter(rank, std::move(args), py::make_tuple(buf, scratch));
  }

  const char* complete(int rank, Ticket ticket, double seconds) {
    check_rank(rank, "rank");
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    if (core_.is_complete(rank, ticket)) return outcome_name(core_.complete(rank, ticket, deadline));
    const bind::ReleaseGil release;
    return outcome_name(core_.complete(rank, ticket, deadline));
  }

  std::vector<int> missing(Ticket ticket) const { return core_.missing(ticket); }
  void abort() { core_.abort(); }

 private:
  // The slot keeps the arrays alive until it is used again; by then no rank uses them.
  Ticket enter(int rank, CollectiveArgs args, py::object arrays) {
    check_rank(rank, "rank");
    const auto [ticket, entered] = core_.post(rank, std::move(args));
    const auto ranks = static_cast<std::size_t>(size()), place = ticket % core_.slots() * ranks;
    if (entered) std::swap(held_[place + static_cast<std::size_t>(rank)], arrays);
    return ticket;
  }

  void check_rank(int rank, const char* argument) const { checked_rank(rank, argument, size()); }

  void check_edges(const std::vector<int>& ranks, const std::vector<double>& weights,
                   const std::vector<int>& readers) const {
    const std::string count = std::to_string(ranks.size());
    if (ranks.empty()) refuse("ranks", "at least one rank");
    if (weights.size() != ranks.size())
      refuse("weights", "as many as ranks (" + count + "), got " + std::to_string(weights.size()));
    check_distinct(ranks, "ranks");
    check_distinct(readers, "readers");
    for (const double weight : weights)
      if (!std::isfinite(weight)) refuse("weights", "finite, got " + std::to_string(weight));
  }

  void check_distinct(const std::vector<int>& ranks, const char* argument) const {
    std::vector<bool> seen(static_cast<std::size_t>(size()));
    for (const int rank : ranks) {
      check_rank(rank, argument);
      const auto place = static_cast<std::size_t>(rank);
      if (seen[place]) refuse(argument, "different ranks, got " + std::to_string(rank) + " twice");
      seen[place] = true;
    }
  }

  shared::Team core_;
  int outstanding_;
  std::vector<py::object> held_;
};

}  // namespace loosestep::bind
