// The arguments of a collective on one rank, and the messages about ranks that disagree.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "shared/reduce_loops.hpp"

namespace loosestep::shared {

enum class Kind { all_reduce, broadcast, all_gather, barrier, mix };
enum class Dtype { float32, float64 };

inline std::size_t bytes_of(Dtype dtype) { return dtype == Dtype::float32 ? sizeof(float) : sizeof(double); }

struct CollectiveArgs {
  Kind kind = Kind::barrier;
  Op op = Op::sum;
  Dtype dtype = Dtype::float32;
  int root = 0;
  std::size_t size = 0;  // elements of buf
  double weight = 1;     // of this rank, in a mean
  void* buf = nullptr;
  void* other = nullptr;   // all_gather: the result, size * ranks elements; mix: a workspace as large as buf
  std::vector<int> ranks;  // mix: whose buffers are added, in this order
  std::vector<double> weights;  // mix: one for each of `ranks`
  std::vector<int> readers;     // mix: the other ranks that read the buffer of this one
};

inline std::string name_of(const CollectiveArgs& args) {
  static constexpr const char* ops[] = {"sum", "mean", "max", "min"};
  switch (args.kind) {
    case Kind::all_reduce:
      return std::string("all_reduce(") + ops[static_cast<int>(args.op)] + ")";
    case Kind::broadcast:
      return "broadcast(root " + std::to_string(args.root) + ")";
    case Kind::all_gather:
      return "all_gather";
    case Kind::mix:
      return "mix";
    default:
      return "barrier";
  }
}

inline std::string describe(const CollectiveArgs& args) {
  if (args.kind == Kind::barrier) return name_of(args);
  const char* dtype = args.dtype == Dtype::float32 ? " float32" : " float64";
  return name_of(args) + " of " + std::to_string(args.size) + dtype;
}

inline bool agree(const CollectiveArgs& a, const CollectiveArgs& b) {
  if (a.kind != b.kind) return false;
  if (a.kind == Kind::barrier) return true;
  if (a.size != b.size || a.dtype != b.dtype) return false;
  return (a.kind != Kind::all_reduce || a.op == b.op) && (a.kind != Kind::broadcast || a.root == b.root);
}

inline std::string disagreement(int rank, const CollectiveArgs& mine, int other,
                                const CollectiveArgs& theirs) {
  return "rank " + std::to_string(rank) + " asked for " + describe(mine) + ", rank " + std::to_string(other) +
         " for " + describe(theirs);
}

inline bool overlap(const void* a, std::size_t a_bytes, const void* b, std::size_t b_bytes) {
  const auto from_a = reinterpret_cast<std::uintptr_t>(a), from_b = reinterpret_cast<std::uintptr_t>(b);
  return a_bytes > 0 && b_bytes > 0 && from_a < from_b + b_bytes && from_b < from_a + a_bytes;
}

// Return whether one of the calls would write memory that the other one uses.
inline bool collide(const CollectiveArgs& a, const CollectiveArgs& b, int ranks) {
  if (a.kind == Kind::barrier) return false;
  const std::size_t piece = a.size * bytes_of(a.dtype);
  if (a.kind == Kind::all_reduce || a.kind == Kind::broadcast) return overlap(a.buf, piece, b.buf, piece);
  const std::size_t whole = a.kind == Kind::all_gather ? piece * static_cast<std::size_t>(ranks) : piece;
  return overlap(a.other, whole, b.other, whole) || overlap(a.buf, piece, b.other, whole) ||
         overlap(b.buf, piece, a.other, whole) ||
         (a.kind == Kind::mix && overlap(a.buf, piece, b.buf, piece));
}

inline std::string collision(int a, int b, const CollectiveArgs& args) {
  return "ranks " + std::to_string(a) + " and " + std::to_string(b) + " gave the same memory to " +
         describe(args);
}

// Return an error message unless the reader's mix may read the source's buffer.
inline std::string edge_mismatch(int reader, const CollectiveArgs& r, int source, const CollectiveArgs& s) {
  if (!agree(r, s)) return disagreement(reader, r, source, s);
  if (reader == source) return {};
  if (std::ranges::find(r.ranks, source) == r.ranks.end())
    return "rank " + std::to_string(source) + " names rank " + std::to_string(reader) +
           " as a reader in a mix that does not read it";
  if (std::ranges::find(s.readers, reader) == s.readers.end())
    return "rank " + std::to_string(reader) + " mixes in rank " + std::to_string(source) +
           ", which does not name it as a reader";
  return collide(r, s, 1) ? collision(std::min(reader, source), std::max(reader, source), r) : std::string();
}

// Return an error message unless all ranks called the same collective, on separate memory.
inline std::string mismatch(std::span<const CollectiveArgs> all_args) {
  const int size = static_cast<int>(all_args.size());
  for (int rank = 1; rank < size; ++rank)
    if (!agree(all_args[rank], all_args[0])) return disagreement(rank, all_args[rank], 0, all_args[0]);
  for (int b = 1; b < size; ++b)
    for (int a = 0; a < b; ++a)
      if (collide(all_args[a], all_args[b], size)) return collision(a, b, all_args[a]);
  return {};
}

}  // namespace loosestep::shared
