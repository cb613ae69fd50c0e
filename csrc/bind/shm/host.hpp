// The binding of Host: checks, and the lifetime of the mapping.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "bind/python/exclusive_call.hpp"
#include "bind/python/gil.hpp"
#include "bind/shared/collective_args.hpp"
#include "bind/shm/host_arena.hpp"
#include "bind/shm/owned.hpp"
#include "heartbeat/shm_heartbeat.hpp"
#include "shm/collectives.hpp"

namespace loosestep::bind {

class Host {
 public:
  Host(const py::object& path, int size, int rank, bool create)
      : size_(at_least_one(size, "size")),
        rank_(checked_rank(rank, "rank", size)),
        open_(opened(path, create)) {}

  static int make(std::size_t bytes) { return shm::make_memory(bytes); }
  static std::size_t needed(int size) { return shm::Layout::bytes(at_least_one(size, "size")); }

  int size() const { return size_; }
  int rank() const { return rank_; }

  void use(const HostArena* arena, std::size_t direct_from, const std::vector<shm::Forms::Piece>& pieces,
           bool spins) {
    const ExclusiveCall exclusive(busy_, rank_);
    open()->collectives.use(arena_of(arena), shm::Forms::checked(direct_from, pieces, spins));
  }

  const char* all_reduce(const py::object& buf, const std::string& op, double weight, double seconds) {
    return run(all_reduce_args(buf, op, weight), seconds);
  }
  const char* broadcast(const py::object& buf, int root, double seconds) {
    return run(broadcast_args(buf, root, rank_, size_), seconds);
  }
  const char* all_gather(const py::object& piece, const py::object& out, double seconds) {
    return run(all_gather_args(piece, out, rank_, size_), seconds);
  }
  const char* barrier(double seconds) { return run(CollectiveArgs{}, seconds); }

  std::uint32_t moved() const { return open()->collectives.pieces_published(); }
  void abort() { open()->collectives.abort(); }
  double beat_age(int rank) const {
    const auto open = this->open();
    return shm::beat_age(open->collectives.record(checked_rank(rank, "rank", size_)));
  }
  void note(const std::string& text) {
    const auto open = this->open();
    const std::lock_guard lock(note_mutex_);
    open->collectives.mine().status.write(text);
  }
  py::str noted(int rank) const {
    const auto open = this->open();
    const std::string text = open->collectives.record(checked_rank(rank, "rank", size_)).status.read();
    return py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(text.data(), py::ssize_t(text.size()), "replace"));
  }
  void close() {
    const ExclusiveCall exclusive(busy_, rank_);
    open_.close();
  }

 private:
  // In this order: the heartbeat stops before its memory is unmapped.
  struct Open {
    shm::Mapping mapping;
    shm::Collectives collectives;
    shm::ShmHeartbeat heartbeat;
    Open(shm::Mapping memory, int size, int rank, bool create)
        : mapping(std::move(memory)),
          collectives(mapping.memory(), size, rank, create),
          heartbeat(collectives.mine()) {}
  };

  std::shared_ptr<Open> opened(const py::object& path, bool create) const {
    return std::make_shared<Open>(map_memory(path, needed(size_), create), size_, rank_, create);
  }

  std::shared_ptr<Open> open() const { return open_.get("this Host"); }

  const char* run(const CollectiveArgs& args, double seconds) {
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    const ExclusiveCall exclusive(busy_, rank_);  // close() is refused from here on
    const auto open = this->open();
    const bind::ReleaseGil release;
    return outcome_name(open->collectives.run(args, deadline));
  }

  int size_, rank_;
  std::atomic_flag busy_;
  std::mutex note_mutex_;  // the status text has one writer
  ProcessOwned<Open> open_;
};

}  // namespace loosestep::bind
