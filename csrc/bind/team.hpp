// Team as Python sees it: checks, references to the posted arrays, the GIL. No loop over elements, no protocol.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "bind/arrays.hpp"
#include "shared/team.hpp"

namespace loosestep::bind {

using shared::Kind;
using shared::Op;
using shared::Post;
using shared::Ticket;

inline Op op_named(const std::string& name) {
  if (name == "sum") return Op::sum;
  if (name == "mean") return Op::mean;
  if (name == "max") return Op::max;
  if (name == "min") return Op::min;
  throw py::value_error("op must be 'sum', 'mean', 'max' or 'min', got '" + name + "'");
}

inline int at_least_one(int value, const char* argument) {
  if (value < 1) refuse(argument, "at least 1, got " + std::to_string(value));
  return value;
}

class Team {
 public:
  Team(int size, int outstanding)
      : core_(at_least_one(size, "size"), at_least_one(outstanding, "outstanding")),
        outstanding_(outstanding),
        held_(core_.slots() * static_cast<std::size_t>(size)) {}

  int size() const { return core_.size(); }
  int outstanding() const { return outstanding_; }

  Ticket all_reduce(int rank, const py::object& buf, const std::string& op, double weight) {
    const Array array = writable(buf, "buf");
    Post post = post_of(Kind::all_reduce, array);
    post.op = op_named(op);
    post.weight = checked_weight(post, weight);
    return enter(rank, std::move(post), buf);
  }

  Ticket broadcast(int rank, const py::object& buf, int root) {
    check_rank(root, "root");
    Post post = post_of(Kind::broadcast, rank == root ? readable(buf, "buf") : writable(buf, "buf"));
    post.root = root;
    return enter(rank, std::move(post), buf);
  }

  Ticket all_gather(int rank, const py::object& piece, const py::object& out) {
    check_rank(rank, "rank");
    const Array from = readable(piece, "piece"), to = writable(out, "out");
    require_dtype(to, "out", from.dtype, "piece");
    require_size(to, "out", from.size * static_cast<std::size_t>(size()), "one piece for each rank");
    const auto place = static_cast<char*>(to.data) + static_cast<std::size_t>(rank) * from.bytes();
    if (from.data != place && shared::overlap(from.data, from.bytes(), to.data, to.bytes()))
      refuse("piece", "outside out, or exactly this rank's place in it");
    Post post = post_of(Kind::all_gather, from);
    post.other = to.data;
    return enter(rank, std::move(post), py::make_tuple(piece, out));
  }

  Ticket barrier(int rank) { return enter(rank, Post{}, py::none()); }

  Ticket mix(int rank, const py::object& buf, const py::object& scratch, std::vector<int> ranks,
             std::vector<double> weights, std::vector<int> readers) {
    check_rank(rank, "rank");
    const Array array = writable(buf, "buf"), space = writable(scratch, "scratch");
    require_dtype(space, "scratch", array.dtype, "buf");
    require_size(space, "scratch", array.size, "as many as buf");
    if (shared::overlap(array.data, array.bytes(), space.data, space.bytes())) refuse("scratch", "outside buf");
    Post post = post_of(Kind::mix, array);
    post.other = space.data;
    std::erase(readers, rank);
    check_edges(ranks, weights, readers);
    post.ranks = std::move(ranks), post.weights = std::move(weights), post.readers = std::move(readers);
    return enter(rank, std::move(post), py::make_tuple(buf, scratch));
  }

  const char* complete(int rank, Ticket ticket, double seconds) {
    check_rank(rank, "rank");
    if (std::isnan(seconds) || seconds < 0) refuse("seconds", "at least 0, got " + std::to_string(seconds));
    const auto deadline = shared::deadline_after(seconds);
    if (core_.settled(rank, ticket)) return word_for(core_.complete(rank, ticket, deadline));
    const py::gil_scoped_release release;
    return word_for(core_.complete(rank, ticket, deadline));
  }

  std::vector<int> missing(Ticket ticket) const { return core_.missing(ticket); }
  void abort() { core_.abort(); }

 private:
  static const char* word_for(shared::Outcome outcome) {
    if (outcome == shared::Outcome::done) return "done";
    return outcome == shared::Outcome::waiting ? "waiting" : "aborted";
  }

  static Post post_of(Kind kind, const Array& array) {
    Post post;
    post.kind = kind, post.dtype = array.dtype, post.size = array.size, post.buf = array.data;
    return post;
  }

  // The slot keeps the arrays alive until it is used again; by then no rank is at work on them.
  Ticket enter(int rank, Post post, py::object arrays) {
    check_rank(rank, "rank");
    const auto [ticket, entered] = core_.post(rank, std::move(post));
    const auto ranks = static_cast<std::size_t>(size()), place = ticket % core_.slots() * ranks;
    if (entered) std::swap(held_[place + static_cast<std::size_t>(rank)], arrays);
    return ticket;
  }

  void check_rank(int rank, const char* argument) const {
    if (rank >= 0 && rank < size()) return;
    refuse(argument, "between 0 and " + std::to_string(size() - 1) + ", got " + std::to_string(rank));
  }

  static bool is_finite(const Post& post, double weight) {
    return std::abs(weight) <= (post.dtype == Dtype::float32 ? std::numeric_limits<float>::max()
                                                             : std::numeric_limits<double>::max());
  }

  static double checked_weight(const Post& post, double weight) {
    if (!(weight >= 0) || !is_finite(post, weight))
      refuse("weight", "finite and at least 0, got " + std::to_string(weight));
    if (post.op != Op::mean && weight != 1) refuse("weight", "1 unless op is 'mean', got " + std::to_string(weight));
    return weight;
  }

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
