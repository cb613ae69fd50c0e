// HostLane as Python sees it: checks, references to the started arrays, the GIL. No protocol.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "bind/host.hpp"
#include "bind/released.hpp"
#include "host/started.hpp"

namespace loosestep::bind {

class HostLane {
 public:
  using Number = host::Started::Number;

  HostLane(const py::object& path, int size, int rank, bool create)
      : size_(at_least_one(size, "size")),
        rank_(checked_rank(rank, "rank", size)),
        open_(std::make_unique<Open>(mapped(path, Host::needed(size), create), size, rank, create)) {}

  int size() const { return size_; }
  int rank() const { return rank_; }

  Number all_reduce(const py::object& buf, const std::string& op, double weight) {
    return start(all_reduce_post(buf, op, weight), buf);
  }
  Number broadcast(const py::object& buf, int root) {
    return start(broadcast_post(buf, root, rank_, size_), buf);
  }
  Number all_gather(const py::object& piece, const py::object& out) {
    return start(all_gather_post(piece, out, rank_, size_), py::make_tuple(piece, out));
  }
  Number barrier() { return start(Post{}, py::none()); }

  const char* wait(Number number, double seconds) {
    host::Started& started = open().started;
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    if (number >= first_ + held_.size())
      throw std::invalid_argument("rank " + std::to_string(rank_) + " has started no call " +
                                  std::to_string(number));
    const auto outcome = waited(started, number, deadline);
    if (outcome == shared::Outcome::done) let_go_of(number);
    return word_for(outcome);
  }

  std::uint32_t moved() const { return open().ranks.moved(); }
  void abort() { open().ranks.abort(); }
  void close() {
    const Turn nobody(busy_, rank_);
    open_.close();
    held_.clear();
  }

 private:
  // In this order: the thread stops before its memory goes.
  struct Open {
    host::Mapping mapping;
    host::Ranks ranks;
    host::Started started;
    Open(host::Mapping memory, int size, int rank, bool create)
        : mapping(std::move(memory)), ranks(mapping.memory(), size, rank, create), started(ranks) {}
  };

  Open& open() const { return open_.get("this HostLane"); }

  // The arrays live until their call is known to be done; numbers are given with the GIL held.
  Number start(Post post, py::object arrays) {
    host::Started& started = open().started;
    held_.push_back(std::move(arrays));
    return started.start(std::move(post));
  }

  shared::Outcome waited(host::Started& started, Number number, shared::Clock::time_point deadline) {
    const Turn turn(busy_, rank_);
    const bind::Released release;
    return started.wait(number, deadline);
  }

  void let_go_of(Number number) {
    for (; first_ <= number && !held_.empty(); ++first_) held_.pop_front();
  }

  int size_, rank_;
  std::atomic_flag busy_;
  std::deque<py::object> held_;  // of the calls from first_ on
  Number first_ = 0;
  Owned<Open> open_;
};

}  // namespace loosestep::bind
