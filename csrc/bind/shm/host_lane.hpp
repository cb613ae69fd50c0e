// The binding of HostLane: checks, and references to the arrays of started collectives.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "bind/python/gil.hpp"
#include "bind/shm/host.hpp"
#include "shm/background_queue.hpp"

namespace loosestep::bind {

class HostLane {
 public:
  using Number = shm::BackgroundQueue::Number;

  HostLane(const py::object& path, int size, int rank, bool create)
      : size_(at_least_one(size, "size")),
        rank_(checked_rank(rank, "rank", size)),
        open_(std::make_unique<Open>(map_memory(path, Host::needed(size), create), size, rank, create)) {}

  int size() const { return size_; }
  int rank() const { return rank_; }

  Number all_reduce(const py::object& buf, const std::string& op, double weight) {
    return start(all_reduce_args(buf, op, weight), buf);
  }
  Number broadcast(const py::object& buf, int root) {
    return start(broadcast_args(buf, root, rank_, size_), buf);
  }
  Number all_gather(const py::object& piece, const py::object& out) {
    return start(all_gather_args(piece, out, rank_, size_), py::make_tuple(piece, out));
  }
  Number barrier() { return start(CollectiveArgs{}, py::none()); }

  const char* wait(Number number, double seconds) {
    shm::BackgroundQueue& started = open().started;
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    if (number >= first_ + held_.size())
      throw std::invalid_argument("rank " + std::to_string(rank_) + " has started no call " +
                                  std::to_string(number));
    const auto outcome = wait_without_gil(started, number, deadline);
    if (outcome == shared::Outcome::done) release_until(number);
    return outcome_name(outcome);
  }

  std::uint32_t moved() const { return open().collectives.pieces_published(); }
  void abort() { open().collectives.abort(); }
  void close() {
    const ExclusiveCall exclusive(busy_, rank_);
    open_.close();
    held_.clear();
  }

 private:
  // In this order: the thread stops before its memory is unmapped.
  struct Open {
    shm::Mapping mapping;
    shm::Collectives collectives;
    shm::BackgroundQueue started;
    Open(shm::Mapping memory, int size, int rank, bool create)
        : mapping(std::move(memory)),
          collectives(mapping.memory(), size, rank, create),
          started(collectives) {}
  };

  Open& open() const { return open_.get("this HostLane"); }

  // Start a call and keep its arrays until it is done. Numbers are given with the GIL held.
  Number start(CollectiveArgs args, py::object arrays) {
    shm::BackgroundQueue& started = open().started;
    held_.push_back(std::move(arrays));
    return started.start(std::move(args));
  }

  shared::Outcome wait_without_gil(shm::BackgroundQueue& started, Number number,
                                   shared::Clock::time_point deadline) {
    const ExclusiveCall exclusive(busy_, rank_);
    const bind::ReleaseGil release;
    return started.wait(number, deadline);
  }

  void release_until(Number number) {
    for (; first_ <= number && !held_.empty(); ++first_) held_.pop_front();
  }

  int size_, rank_;
  std::atomic_flag busy_;
  std::deque<py::object> held_;  // arrays of the calls from first_
  Number first_ = 0;
  ProcessOwned<Open> open_;
};

}  // namespace loosestep::bind
