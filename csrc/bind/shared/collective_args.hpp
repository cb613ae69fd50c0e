// Checks the arguments of collectives, for threads and for processes.
#pragma once

#include <cmath>
#include <limits>
#include <string>

#include "bind/python/arrays.hpp"
#include "shared/team.hpp"

namespace loosestep::bind {

using shared::CollectiveArgs;
using shared::Kind;
using shared::Op;

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

inline int checked_rank(int rank, const char* argument, int size) {
  if (rank >= 0 && rank < size) return rank;
  refuse(argument, "between 0 and " + std::to_string(size - 1) + ", got " + std::to_string(rank));
}

inline double checked_seconds(double seconds) {
  if (std::isnan(seconds) || seconds < 0) refuse("seconds", "at least 0, got " + std::to_string(seconds));
  return seconds;
}

inline CollectiveArgs args_of(Kind kind, const Array& array) {
  CollectiveArgs args;
  args.kind = kind, args.dtype = array.dtype, args.size = array.size, args.buf = array.data;
  return args;
}

inline double checked_weight(const CollectiveArgs& args, double weight) {
  const bool narrow = args.dtype == Dtype::float32;
  const double most = narrow ? std::numeric_limits<float>::max() : std::numeric_limits<double>::max();
  if (!(weight >= 0 && weight <= most))
    refuse("weight", "finite and at least 0, got " + std::to_string(weight));
  if (args.op != Op::mean && weight != 1)
    refuse("weight", "1 unless op is 'mean', got " + std::to_string(weight));
  return weight;
}

inline CollectiveArgs all_reduce_args(const py::object& buf, const std::string& op, double weight) {
  CollectiveArgs args = args_of(Kind::all_reduce, writable_array(buf, "buf"));
  args.op = op_named(op);
  args.weight = checked_weight(args, weight);
  return args;
}

inline CollectiveArgs broadcast_args(const py::object& buf, int root, int rank, int size) {
  checked_rank(root, "root", size);
  CollectiveArgs args =
      args_of(Kind::broadcast, rank == root ? readable_array(buf, "buf") : writable_array(buf, "buf"));
  args.root = root;
  return args;
}

inline CollectiveArgs all_gather_args(const py::object& piece, const py::object& out, int rank, int size) {
  const Array from = readable_array(piece, "piece"), to = writable_array(out, "out");
  require_dtype(to, "out", from.dtype, "piece");
  require_size(to, "out", from.size * static_cast<std::size_t>(size), "one piece for each rank");
  const auto place = static_cast<char*>(to.data) + static_cast<std::size_t>(rank) * from.bytes();
  if (from.data != place && shared::overlap(from.data, from.bytes(), to.data, to.bytes()))
    refuse("piece", "outside out, or exactly this rank's place in it");
  CollectiveArgs args = args_of(Kind::all_gather, from);
  args.other = to.data;
  return args;
}

inline const char* outcome_name(shared::Outcome outcome) {
  if (outcome == shared::Outcome::done) return "done";
  return outcome == shared::Outcome::waiting ? "waiting" : "aborted";
}

}  // namespace loosestep::bind
