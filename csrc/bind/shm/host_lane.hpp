// The binding of HostLane: checks, and references to the arrays of started collectives.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

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
        open_(std::make_shared<Open>(map_memory(path, Host::needed(size), create), size, rank, create)) {}

  int size() const { return size_; }
  int rank() const { return rank_; }

  void use(const HostArena* arena, std::size_t direct_from, const std::vector<shm::Forms::Piece>& pieces,
           bool spins) {
    const ExclusiveCall exclusive(busy_, rank_);
    open()->started.use(arena_of(arena), shm::Forms::checked(direct_from, pieces, spins));
  }

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
    const auto open = this->open();
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    if (number >= open->arrays.end())
      throw std::invalid_argument("rank " + std::to_string(rank_) + " has started no call " +
                                  std::to_string(number));
    const auto outcome = wait_without_gil(open->started, number, deadline);
    if (outcome == shared::Outcome::done) open->arrays.release_until(number);
    return outcome_name(outcome);
  }

  std::uint32_t moved() const { return open()->collectives.pieces_published(); }
  void abort() { open()->collectives.abort(); }
  void close() {
    const ExclusiveCall exclusive(busy_, rank_);
    open_.close();
  }

 private:
  // The arrays of the calls that are not known to be done.
  class HeldArrays {
   public:
    // Keep the arrays of the call that `start` starts and numbers, in the order of the numbers.
    template <class Start> Number add(py::object arrays, Start start) {
      const std::lock_guard lock(mutex_);
      held_.push_back(std::move(arrays));
      return start();
    }

    Number end() const {
      const std::lock_guard lock(mutex_);
      return first_ + held_.size();
    }

    // Releases without the lock: freeing an array may run Python code.
    void release_until(Number number) {
      std::vector<py::object> done;
      const std::lock_guard lock(mutex_);
      for (; first_ <= number && !held_.empty(); ++first_) {
        done.push_back(std::move(held_.front()));
        held_.pop_front();
      }
    }

   private:
    mutable std::mutex mutex_;
    std::deque<py::object> held_;  // of the calls from first_
    Number first_ = 0;
  };

  // In this order: the thread stops before its memory is unmapped and the arrays are released.
  struct Open {
    HeldArrays arrays;
    shm::Mapping mapping;
    shm::Collectives collectives;
    shm::BackgroundQueue started;
    Open(shm::Mapping memory, int size, int rank, bool create)
        : mapping(std::move(memory)),
          collectives(mapping.memory(), size, rank, create),
          started(collectives) {}
  };

  std::shared_ptr<Open> open() const { return open_.get("this HostLane"); }

  Number start(CollectiveArgs args, py::object arrays) {
    const auto open = this->open();
    return open->arrays.add(std::move(arrays), [&] { return open->started.start(std::move(args)); });
  }

  shared::Outcome wait_without_gil(shm::BackgroundQueue& started, Number number,
                                   shared::Clock::time_point deadline) {
    const ExclusiveCall exclusive(busy_, rank_);
    const bind::ReleaseGil release;
    return started.wait(number, deadline);
  }

  int size_, rank_;
  std::atomic_flag busy_;
  ProcessOwned<Open> open_;
};

}  // namespace loosestep::bind
