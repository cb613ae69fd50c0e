// What a rank has begun: sends and receives of its own memory, and sums of what several ranks send.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cpu/stream_out.hpp"

namespace loosestep::shm {

// An array of this process; `dtype` is numpy's type number.
struct Span {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  std::uint64_t elements = 0;
  std::uint8_t dtype = 0;

  bool like(const Span& other) const { return elements == other.elements && dtype == other.dtype; }
};

// Return an array in words, with numpy's name of its element type.
inline std::string described(const Span& span) {
  static constexpr const char* names[] = {
      "bool",   "int8",  "uint8",  "int16",   "uint16",  "int32",      "uint32",    "int64",
      "uint64", "int64", "uint64", "float32", "float64", "longdouble", "complex64", "complex128"};
  const std::string name =
      span.dtype < std::size(names) ? names[span.dtype] : "of type " + std::to_string(span.dtype);
  return std::to_string(span.elements) + " " + name;
}

using Bytes = std::unique_ptr<std::byte[]>;

inline Bytes uninitialized(std::size_t bytes) { return std::make_unique_for_overwrite<std::byte[]>(bytes); }

// streamed: past the caches.
inline void copy_bytes(std::byte* to, const std::byte* from, std::size_t n, bool streamed = false) {
  if (streamed)
    stream_out(to, from, n), fence();
  else if (n > 0)
    std::memcpy(to, from, n);
}

// out = sum_k weights[k] x_k, a left fold, in place: one x_k is `out` itself. Parts that have come stay in
// their sender's pieces until all sources have theirs, so each is read once, where its sender has put it.
struct Mix {
  // Sums elements [0, n) of the terms; `out` may be one of them.
  using Fold = void (*)(std::uint8_t dtype, const void* const* terms, const double* weights,
                        std::size_t count, void* out, std::size_t n);

  // What another rank sends: the beginning is in `room`, if anything is, the rest in pieces.
  struct Source {
    int rank = 0;
    Bytes room;
    std::size_t in_room = 0;
    std::deque<std::pair<std::uint32_t, std::size_t>> pieces;  // (piece of that rank, bytes), in order

    // Return whether bytes up to `end`, of which those that are used up are no longer counted, are here.
    bool has(std::size_t end) const { return in_room >= end || !pieces.empty(); }
  };

  Span out;
  std::vector<double> weights;
  std::vector<Source> sources;  // one for each weight; that of this rank has no content
  std::vector<const void*> terms;
  int awaited = 0;          // sources whose message has not begun to come
  std::size_t sent = 0;     // bytes of `out` that have left
  std::size_t folded = 0;   // bytes of `out` that hold the sum
  bool may_change = false;  // whether `out` may be written yet
};

// A request in flight. It, and its buffers, must live until `left` is 0.
struct Operation {
  int left = 0;                                                // parts that are not done
  std::uint64_t round = 0;                                     // for people
  std::size_t* ended = nullptr;                                // counts it at its end
  std::unique_ptr<std::vector<std::pair<int, double>>> notes;  // (source, note) of what has come, if wanted
  std::unique_ptr<Mix> mix;

  void finish(int parts = 1) {
    left -= parts;
    if (left == 0 && ended) ++*ended;
  }
};

// Where a message is to be written.
struct Posted {
  std::uint64_t tag = 0;
  Span into;
  Operation* operation = nullptr;
  std::size_t place = 0;  // among the sources of a mix
};

// A message that has begun to come: to where its receive says, or, before one is posted, to memory of its
// own.
struct Message {
  std::uint64_t number = 0, tag = 0;
  double note = 0;
  Span content;
  std::size_t come = 0;
  std::uint64_t address = 0;  // in the sender, if it is to be pulled
  Bytes own;
  Posted target;  // without an operation: none was posted yet

  bool whole() const { return come == content.bytes; }
  Mix* mix() const { return target.operation ? target.operation->mix.get() : nullptr; }

  // Get memory until a receive is posted.
  void keep() {
    own = uninitialized(content.bytes);
    content.data = own.get();
  }

  // Get memory for the content of a term of a sum; others have their receive's.
  void place() {
    if (!mix()) return;
    Mix::Source& term = mix()->sources[target.place];
    if (!term.room) term.room = uninitialized(content.bytes);
    content.data = term.room.get();
  }

  void advance(std::size_t n) {
    come += n;
    if (mix()) mix()->sources[target.place].in_room += n;
  }
};

}  // namespace loosestep::shm
