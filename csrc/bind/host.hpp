// Host as Python sees it: checks, the mapping's life, the GIL. No protocol.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>

#include "bind/posts.hpp"
#include "bind/released.hpp"
#include "bind/sharing.hpp"
#include "host/heart.hpp"
#include "host/ranks.hpp"

namespace loosestep::bind {

// One thread of a rank at a time, and no close() under it.
class Turn {
 public:
  Turn(std::atomic_flag& busy, int rank) : busy_(busy) {
    if (busy_.test_and_set(std::memory_order_acquire))
      throw std::runtime_error("rank " + std::to_string(rank) + " is already in a call on another thread");
  }
  ~Turn() { busy_.clear(std::memory_order_release); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::atomic_flag& busy_;
};

class Host {
 public:
  Host(const py::object& path, int size, int rank, bool create)
      : size_(at_least_one(size, "size")),
        rank_(checked_rank(rank, "rank", size)),
        open_(opened(path, create)) {}

  static int make(std::size_t bytes) { return host::make_memory(bytes); }
  static std::size_t needed(int size) { return host::Layout::bytes(at_least_one(size, "size")); }

  int size() const { return size_; }
  int rank() const { return rank_; }

  const char* all_reduce(const py::object& buf, const std::string& op, double weight, double seconds) {
    return run(all_reduce_post(buf, op, weight), seconds);
  }
  const char* broadcast(const py::object& buf, int root, double seconds) {
    return run(broadcast_post(buf, root, rank_, size_), seconds);
  }
  const char* all_gather(const py::object& piece, const py::object& out, double seconds) {
    return run(all_gather_post(piece, out, rank_, size_), seconds);
  }
  const char* barrier(double seconds) { return run(Post{}, seconds); }

  std::uint32_t moved() const { return open().ranks.moved(); }
  void abort() { open().ranks.abort(); }
  double beat_age(int rank) const { return host::beat_age(lane(rank)); }
  void note(const std::string& text) { open().ranks.mine().note.write(text); }
  py::str noted(int rank) const {
    const std::string text = lane(rank).note.read();
    return py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(text.data(), py::ssize_t(text.size()), "replace"));
  }
  void close() {
    const Turn nobody(busy_, rank_);
    open_.close();
  }

 private:
  // In this order: the heart stops before its memory goes.
  struct Open {
    host::Mapping mapping;
    host::Ranks ranks;
    host::Heart heart;
    Open(host::Mapping memory, int size, int rank, bool create)
        : mapping(std::move(memory)), ranks(mapping.memory(), size, rank, create), heart(ranks.mine()) {}
  };

  std::unique_ptr<Open> opened(const py::object& path, bool create) const {
    return std::make_unique<Open>(mapped(path, needed(size_), create), size_, rank_, create);
  }

  Open& open() const { return open_.get("this Host"); }
  const host::Lane& lane(int rank) const { return open().ranks.lane(checked_rank(rank, "rank", size_)); }

  const char* run(const Post& post, double seconds) {
    host::Ranks& ranks = open().ranks;
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    const Turn turn(busy_, rank_);  // with the GIL still held, so that close() sees it
    const bind::Released release;
    return word_for(ranks.run(post, deadline));
  }

  int size_, rank_;
  std::atomic_flag busy_;
  Owned<Open> open_;
};

}  // namespace loosestep::bind
