// Host as Python sees it: checks, the mapping's life, the GIL. No protocol.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <vector>

#include "bind/posts.hpp"
#include "host/heart.hpp"
#include "host/mapping.hpp"
#include "host/ranks.hpp"

namespace loosestep::bind {

inline std::string name_of_memory(const py::object& path) {
  return py::isinstance<py::int_>(path) ? "fd " + std::string(py::str(path)) : std::string(py::str(path));
}

// A number is a descriptor from Host.make; a new path is made here, an old one must exist.
inline host::Mapping mapped(const py::object& path, std::size_t bytes, bool create) {
  const std::string name = name_of_memory(path);
  const bool number = py::isinstance<py::int_>(path);
  const host::File own = number ? host::File(-1) : host::File::opened(py::cast<std::string>(path), create);
  const int fd = number ? py::cast<int>(path) : own.get();
  if (create) host::reserve(fd, bytes, name);
  return host::Mapping(fd, bytes, name);
}

// What belongs to the process that made it: a fork has the Python object but neither the memory nor the
// thread.
template <class T> class Owned {
 public:
  explicit Owned(std::unique_ptr<T> what) : what_(std::move(what)) {}
  ~Owned() { close(); }

  T& get(const char* name) const {
    if (!what_) throw py::value_error(std::string(name) + " is closed");
    if (forked())
      throw std::runtime_error(std::string(name) +
                               " was opened by another process: a fork has no part in it");
    return *what_;
  }

  bool usable() const { return what_ && !forked(); }

  void close() {
    if (forked())
      static_cast<void>(what_.release());  // its memory is not mapped here and its threads do not run
    what_.reset();
  }

 private:
  bool forked() const { return ::getpid() != pid_; }

  std::unique_ptr<T> what_;
  pid_t pid_ = ::getpid();
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

  std::vector<int> missing() const { return open().ranks.missing(); }
  void abort() { open().ranks.abort(); }
  double beat_age(int rank) const { return host::beat_age(lane(rank)); }
  void note(const std::string& text) { open().ranks.mine().note.write(text); }
  py::str noted(int rank) const {
    const std::string text = lane(rank).note.read();
    return py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(text.data(), py::ssize_t(text.size()), "replace"));
  }
  void close() {
    if (!open_.usable()) return open_.close();
    const host::Turn nobody(open().ranks.busy(), rank_);
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
    const host::Turn turn(ranks.busy(), rank_);  // with the GIL still held, so that close() sees it
    const py::gil_scoped_release release;
    return word_for(ranks.run(post, deadline));
  }

  int size_, rank_;
  Owned<Open> open_;
};

}  // namespace loosestep::bind
