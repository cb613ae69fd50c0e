// The binding of HostMessages: checks, and the arrays of what was begun.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bind/python/exclusive_call.hpp"
#include "bind/python/gil.hpp"
#include "bind/shared/collective_args.hpp"
#include "bind/shm/message_arrays.hpp"
#include "bind/shm/owned.hpp"
#include "cpu/kernels.hpp"

namespace loosestep::bind {

class HostMessages {
 public:
  using Number = std::uint64_t;  // of what was begun, from 1; 0: it was done at once

  HostMessages(const py::object& path, std::vector<int> ranks, int rank, bool create, bool pulls)
      : names_(std::move(ranks)), rank_(rank), open_(opened(path, create, pulls)) {}

  static std::size_t needed(int size) { return shm::MessageMemory::bytes(at_least_one(size, "size")); }

  Number exchange(const py::object& sends, const py::object& recvs, std::uint64_t tag, double note,
                  const py::object& notes, std::uint64_t round, double seconds) {
    const ExclusiveCall exclusive(busy_, rank_);
    return begin_and_wait(sends, recvs, tag, note, notes, round, false, seconds);
  }
  Number begin(const py::object& sends, const py::object& recvs, std::uint64_t tag, double note,
               const py::object& notes, std::uint64_t round) {
    return begin_and_wait(sends, recvs, tag, note, notes, round, true, 0);
  }

  // Begin a sum: `weights` are (rank, weight) in the order of the terms.
  Number begin_mix(const py::object& buf, const std::vector<std::pair<int, double>>& weights,
                   const std::vector<int>& readers, std::uint64_t tag, std::uint64_t round) {
    const auto open = this->open();
    auto held = std::make_unique<HeldOperation>();
    held->operation.round = round;
    held->operation.mix = mix_of(writable_array(buf, "buf"), weights);
    held->arrays.push_back(buf);
    std::vector<int> to;
    for (const int reader : readers) to.push_back(names_.place(reader, "readers"));
    return start(*open, std::move(held), [&](HeldOperation& begun) {
      return open->messages.begin_mix(begun.operation, to, tag, false);
    });
  }

  bool wait(Number number, double seconds) {
    const auto open = this->open();
    const auto found = open->begun.find(number);
    if (found == open->begun.end())
      throw std::invalid_argument("rank " + std::to_string(rank_) + " has begun no exchange " +
                                  std::to_string(number));
    HeldOperation& held = *found->second;
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    const ExclusiveCall exclusive(busy_, rank_);
    if (!wait_without_gil(open->messages, held.operation, deadline)) return false;
    end(*open, number);
    return true;
  }

  // Move everything on; return the numbers of what was begun to be reported and is done, or None where
  // nothing came.
  py::object advance() {
    const auto open = open_.usable();
    if (!open || !open->messages.has_work()) return py::none();
    std::size_t ended = 0;
    bool moved = false;
    {
      const ReleaseGil release;
      moved = open->messages.serve();
      ended = open->messages.take_ended();
    }
    if (!moved && ended == 0) return py::none();
    return ended > 0 ? ended_ones(*open) : py::list();
  }

  void rest(double seconds) {
    const auto open = this->open();
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    const ReleaseGil release;
    open->messages.rest(deadline);
  }

  std::uint64_t sent() const { return open()->messages.sent(); }
  std::uint64_t received() const { return open()->messages.received(); }
  std::uint64_t moved() const { return open()->messages.parts(); }
  void close() {
    const ExclusiveCall exclusive(busy_, rank_);
    open_.close();
  }

 private:
  // In this order: what was begun is released when nothing refers to it any more.
  struct Open {
    std::unordered_map<Number, std::unique_ptr<HeldOperation>> begun;
    Number last = 0;
    std::unique_ptr<HeldOperation> spare = std::make_unique<HeldOperation>();
    shm::Mapping mapping;
    shm::Messages messages;
    Open(shm::Mapping memory, const std::vector<int>& ranks, int place, bool create, bool pulls)
        : mapping(std::move(memory)), messages(mapping.memory(), ranks, place, create, sum, pulls) {}
  };

  static constexpr std::uint8_t numpy_float = 11, numpy_double = 12;

  static void sum(std::uint8_t dtype, const void* const* terms, const double* weights, std::size_t count,
                  void* out, std::size_t n) {
    const Fold job{terms, weights, count, 0, out, false};
    available().begin[0]->fold[dtype == numpy_float ? float32 : float64](job, 0, n);
  }

  std::shared_ptr<Open> opened(const py::object& path, bool create, bool pulls) const {
    const int place = names_.place(rank_, "rank");
    shm::Mapping memory = map_memory(path, needed(names_.size()), create);
    return std::make_shared<Open>(std::move(memory), names_.all(), place, create, pulls);
  }

  std::shared_ptr<Open> open() const { return open_.get("this HostMessages"); }

  std::unique_ptr<shm::Mix> mix_of(const Array& buf,
                                   const std::vector<std::pair<int, double>>& weights) const {
    auto mix = std::make_unique<shm::Mix>();
    const bool narrow = buf.dtype == Dtype::float32;
    mix->out = {static_cast<std::byte*>(buf.data), buf.bytes(), buf.size,
                narrow ? numpy_float : numpy_double};
    if (weights.empty()) refuse("weights", "at least one");
    for (const auto& [rank, weight] : weights) {
      mix->sources.push_back({names_.place(rank, "weights"), {}, 0, {}});
      mix->weights.push_back(weight);
    }
    return mix;
  }

  Number begin_and_wait(const py::object& sends, const py::object& recvs, std::uint64_t tag, double note,
                        const py::object& notes, std::uint64_t round, bool reported, double seconds) {
    const auto open = this->open();
    auto held = open->spare ? std::move(open->spare) : std::make_unique<HeldOperation>();
    held->read(sends, "sends", false, names_);
    held->read(recvs, "recvs", true, names_);
    held->operation.round = round, held->reported = reported;
    if (!notes.is_none()) {
      held->notes = notes;
      held->operation.notes = std::make_unique<std::vector<std::pair<int, double>>>();
    }
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    return start(*open, std::move(held), [&](HeldOperation& begun) {
      shm::Messages& messages = open->messages;
      return messages.begin(begun.operation, begun.sends, begun.receives, tag, note, reported) ||
             (!reported && messages.wait(begun.operation, deadline));
    });
  }

  // Begin something without the GIL, and hold it as long as the core refers to it, also after an error.
  template <class Begin> Number start(Open& open, std::unique_ptr<HeldOperation> held, Begin begin) {
    HeldOperation& begun = *held;
    const Number number = ++open.last;
    struct Keep {
      Open& open;
      Number number;
      std::unique_ptr<HeldOperation> held;
      ~Keep() {
        if (held) open.begun.emplace(number, std::move(held));
      }
    } keep{open, number, std::move(held)};
    bool done;
    {
      const ReleaseGil release;
      done = begin(begun);
    }
    if (!done) return number;
    keep.held->finish();
    open.spare = std::move(keep.held);
    return 0;
  }

  static bool wait_without_gil(shm::Messages& messages, shm::Operation& operation,
                               shared::Clock::time_point deadline) {
    const ReleaseGil release;
    if (operation.mix) messages.let_change(operation);
    return messages.wait(operation, deadline);
  }

  static void end(Open& open, Number number) {
    const auto node = open.begun.extract(number);
    node.mapped()->finish();
  }

  static py::list ended_ones(Open& open) {
    std::vector<Number> numbers;
    for (const auto& [number, held] : open.begun)
      if (held->reported && open.messages.is_done(held->operation)) numbers.push_back(number);
    py::list all;
    for (const Number number : numbers) end(open, number), all.append(number);
    return all;
  }

  RankNames names_;
  int rank_;
  std::atomic_flag busy_;
  ProcessOwned<Open> open_;
};

}  // namespace loosestep::bind
