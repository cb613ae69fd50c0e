// Collectives between the processes of one host, over memory that they all map.
//
// Every rank publishes the same sequence of pieces: piece p lies in its slot p mod R, then its counter
// becomes p + 1. In a step a rank publishes its piece, waits until all ranks have, and reads what it needs. A
// rank that waits for piece t may publish up to `a` pieces of the same call beyond it, where R = 2 a + 2.
// Therefore
// - slot p mod R is free for piece p + R: p + R <= t + a, and a rank that has published t - 1 has read t - 2
// - a >= p;
// - the calls of all ranks are compared before the first piece of each is read: all see the same mismatch,
// and no rank relies on the length of another. Two calls are kept: a rank begins one after it has seen all
// begin the one before, so earlier ones are not read any more;
// - a call is a number of steps and can be interrupted between any two and continued (Outcome::waiting).
//
// A call that may be done in place (Forms) begins with a step whose piece is empty. Once all ranks have published
// it each knows where all vectors lie. If that is in the arena for all that are read by others, the rest of the
// call is one more empty piece, which a rank publishes when it has done its part (DirectWork); else the call goes
// on as any other.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "cpu/threads.hpp"
#include "shared/team.hpp"
#include "shm/arena.hpp"
#include "shm/collective_step.hpp"
#include "shm/direct_step.hpp"
#include "shm/forms.hpp"
#include "shm/layout.hpp"
#include "shm/streaming_stores.hpp"

namespace loosestep::shm {

using shared::CollectiveArgs;
using shared::Kind;
using shared::Mismatch;
using shared::Outcome;

// The counter that a call waits for and the value that it must reach, or nullptr.
struct AwaitedCounter {
  FutexCounter* counter = nullptr;
  std::uint32_t value = 0;
};

class Collectives {
 public:
  Collectives(std::byte* memory, int size, int rank, bool create)
      : layout_(memory, size, create),
        size_(size),
        rank_(rank),
        backoff_(cores() >= size),
        most_ahead_(slots_per_rank(size) / 2 - 1),
        published_(mine().published.value.load()),
        workspace_(size) {}

  // From the next call on look for vectors in `arena`, if there is one. All ranks call it, between the same calls.
  void use(std::shared_ptr<Arena> arena, Forms forms) {
    if (in_flight_) throw std::logic_error("a collective goes on: its form cannot be changed");
    arena_ = std::move(arena), forms_ = std::move(forms);
    backoff_ = AdaptiveBackoff(forms_.spins);
  }

  RankRecord& record(int rank) const { return layout_.record(rank); }
  RankRecord& mine() const { return record(rank_); }

  // Begin a collective, or continue the one that was interrupted at its deadline. One thread at a time: two
  // would race on the state of the call.
  Outcome run(const CollectiveArgs& args, Clock::time_point deadline) {
    if (aborted()) return Outcome::aborted;
    if (!failure_.empty()) throw Mismatch(failure_);
    if (in_flight_)
      check_same_call(args);
    else
      begin_call(args);
    for (; step_ < steps_; ++step_, awaited_rank_ = 0)
      if (const Outcome outcome = advance(deadline); outcome != Outcome::done) return outcome;
    in_flight_ = false;
    return Outcome::done;
  }

  // Return what the interrupted call waits for.
  AwaitedCounter awaited() const {
    return {awaited_rank_ < size_ ? &record(awaited_rank_).published : nullptr, piece_number() + 1};
  }

  // Return how many pieces this rank has published. Any thread may call it to see progress.
  std::uint32_t pieces_published() const { return mine().published.value.load(std::memory_order_relaxed); }

  void abort() { layout_.header().aborted.store(true, std::memory_order_release); }
  bool aborted() const { return layout_.header().aborted.load(std::memory_order_acquire); }

 private:
  void begin_call(const CollectiveArgs& args) {
    const std::size_t bytes = args.size * bytes_of(args.dtype);
    args_ = args;
    piece_bytes_ = forms_.piece_of(bytes);
    const std::size_t pieces = (bytes + piece_bytes_ - 1) / piece_bytes_;
    split_ = args.kind == Kind::all_reduce && size_ > 2 && bytes > min_split_bytes;
    opening_ = may_be_direct() && bytes >= forms_.direct_from ? 1 : 0, direct_ = false;
    steps_ = opening_ + std::max<std::size_t>(pieces, 1) * (split_ ? 2 : 1);
    step_ = 0, awaited_rank_ = 0, seconds_ = 0;
    size_class_ = StoreChoices::class_of((bytes + slot_bytes - 1) / slot_bytes);
    first_ = published_;
    mine().calls[++mine().calls_begun % 2] = CallHeader::of(args);
    if (opening_ > 0)
      mine().places[mine().calls_begun % 2] =
          arena_->holds(args.buf, bytes) ? arena_->offset_of(args.buf) + 1 : 0;
    in_flight_ = true;
  }

  bool may_be_direct() const {
    return arena_ && size_ > 1 && args_.kind != Kind::barrier && args_.kind != Kind::mix;
  }

  // Find the vectors that others read; return whether all of them lie in the arena.
  bool find_vectors() {
    for (int rank = 0; rank < size_; ++rank) {
      const std::uint64_t place = record(rank).places[mine().calls_begun % 2];
      if (place == 0 && (args_.kind != Kind::broadcast || rank == args_.root)) return false;
      workspace_.vectors[static_cast<std::size_t>(rank)] =
          place == 0 ? nullptr : arena_->at(rank, static_cast<std::size_t>(place - 1));
    }
    return true;
  }

  void check_same_call(const CollectiveArgs& args) const {
    if (agree(args, args_) && args.buf == args_.buf && args.other == args_.other &&
        args.weight == args_.weight)
      return;
    throw std::logic_error("rank " + std::to_string(rank_) + " is in " + describe(args_) +
                           ", which is not done: the same call must be repeated, not " + describe(args));
  }

  Outcome advance(Clock::time_point deadline) {
    if (aborted()) return Outcome::aborted;
    if (published_ == piece_number()) publish(), timed_alone_ = true;
    for (; awaited_rank_ < size_; ++awaited_rank_)
      if (const Outcome outcome = await(record(awaited_rank_).published, deadline); outcome != Outcome::done)
        return outcome;
    if (step_ == 0) compare_calls();
    if (step_ < opening_ && find_vectors()) return begin_direct();
    if (step_ >= opening_ && !direct_) {
      work(step_, [](auto&& step) { step.consume(); });
      record_cost();
    }
    return Outcome::done;
  }

  // Do this rank's part of a call in place; all ranks have the same vectors, so all are here.
  Outcome begin_direct() {
    direct_ = true, steps_ = 2, streamed_ = streams_direct();
    const Clock::time_point start = Clock::now();
    const bool all = args_.dtype == shared::Dtype::float32 ? work_direct<float>() : work_direct<double>();
    if (!all) return Outcome::aborted;
    if (rank_ == 0 && may_stream()) {
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      direct_choices_.record(size_class_, streamed_, seconds / static_cast<double>(args_.size));
      publish_choices();
    }
    return Outcome::done;
  }

  template <class T> bool work_direct() {
    const Step step = step_of(0);
    if (args_.kind == Kind::all_reduce && !read_weights<T>(step, workspace_)) return true;
    const DirectWork<T> work(args_, rank_, workspace_.vectors, streamed_);
    return work.run(workspace_.weights, [this] { return aborted(); });
  }

  // Return whether a call in place is large enough for streaming stores.
  bool may_stream() const {
    return args_.kind == Kind::all_reduce && args_.size * bytes_of(args_.dtype) >= min_streaming_bytes;
  }

  bool streams_direct() const {
    const unsigned bits = record(0).streaming_sizes.load(std::memory_order_relaxed);
    return may_stream() && StoreChoices::streams(static_cast<std::uint8_t>(bits >> 8), size_class_);
  }

  Outcome await(FutexCounter& other, Clock::time_point deadline) {
    backoff_.begin();
    while (!other.reached(piece_number() + 1)) {
      if (aborted()) return Outcome::aborted;
      if (backoff_.spin() || publish_ahead()) continue;
      if (Clock::now() >= deadline) return Outcome::waiting;
      if (backoff_.yield()) continue;
      other.sleep_until(piece_number() + 1, deadline);
    }
    backoff_.end();
    return Outcome::done;
  }

  std::uint32_t piece_number() const { return first_ + static_cast<std::uint32_t>(step_); }

  // Publish another piece of this call while others are late. Shares must wait for the pieces that they are
  // computed from.
  bool publish_ahead() {
    if (split_ || direct_ || step_ < opening_ || next_step() == steps_ || next_step() > step_ + most_ahead_)
      return false;
    publish(), timed_alone_ = false;
    return true;
  }

  std::size_t next_step() const { return published_ - first_; }

  void publish() {
    if (next_step() >= opening_ && !direct_) {
      const unsigned bits = record(0).streaming_sizes.load(std::memory_order_relaxed);
      streamed_ = StoreChoices::streams(static_cast<std::uint8_t>(bits), size_class_);
      work(next_step(), [](auto&& step) { step.produce(); });
    }
    ++published_;
    mine().published.advance();
  }

  // Compare the calls of all ranks: all throw the same message, about the first rank that differs from rank
  // 0.
  void compare_calls() {
    const CollectiveArgs first = record(0).calls[mine().calls_begun % 2].args();
    for (int rank = 1; rank < size_; ++rank) {
      const CollectiveArgs other = record(rank).calls[mine().calls_begun % 2].args();
      if (agree(other, first)) continue;
      failure_ = disagreement(rank, other, 0, first);
      throw Mismatch(failure_);
    }
  }

  template <class F> void work(std::size_t step, F f) {
    if (!is_timed()) return run_step(step, f);
    const Clock::time_point start = Clock::now();
    run_step(step, f);
    seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
  }

  Step step_of(std::size_t index) const {
    const auto number = first_ + static_cast<std::uint32_t>(index);
    const std::size_t data = index < opening_ ? 0 : index - opening_;
    return {layout_, size_, rank_, args_, data, number, mine().calls_begun, piece_bytes_, split_, streamed_};
  }

  template <class F> void run_step(std::size_t index, F f) {
    const Step step = step_of(index);
    if (args_.dtype == shared::Dtype::float32)
      f(StepWork<float>(step, workspace_));
    else
      f(StepWork<double>(step, workspace_));
  }

  bool is_timed() const {
    return rank_ == 0 && args_.kind == Kind::all_reduce && bytes_of_piece() >= min_streaming_bytes;
  }

  std::size_t bytes_of_piece() const {
    const std::size_t index = step_ < opening_ ? 0 : step_ - opening_;
    const std::size_t before = (split_ ? index / 2 : index) * piece_bytes_;
    return std::min(piece_bytes_, args_.size * bytes_of(args_.dtype) - before);
  }

  // Record how long the last piece took rank 0, without the waiting, if no other piece was published in its
  // step.
  void record_cost() {
    if (!is_timed() || (split_ && (step_ - opening_) % 2 == 0)) return;
    if (timed_alone_)
      store_choices_.record(size_class_, streamed_, seconds_ / static_cast<double>(bytes_of_piece()));
    publish_choices();
    timed_alone_ = false, seconds_ = 0;
  }

  void publish_choices() {
    const unsigned bits = store_choices_.bits() | unsigned{direct_choices_.bits()} << 8;
    mine().streaming_sizes.store(static_cast<std::uint16_t>(bits), std::memory_order_relaxed);
  }

  // Below this size a second synchronization costs more than reading the pieces of all ranks.
  static constexpr std::size_t min_split_bytes = 16 * 1024;

  Layout layout_;
  int size_, rank_;
  std::shared_ptr<Arena> arena_;
  Forms forms_;
  AdaptiveBackoff backoff_;
  std::size_t most_ahead_;
  std::uint32_t published_, first_ = 0;  // pieces; first_: when the call began
  CollectiveArgs args_;
  std::size_t step_ = 0, steps_ = 0;
  int awaited_rank_ = 0;  // ranks below it have published this step's piece
  std::size_t piece_bytes_ = slot_bytes;  // of this call
  std::size_t opening_ = 0;               // steps of this call before its data
  bool split_ = false, direct_ = false;
  StoreChoices store_choices_, direct_choices_{false};  // used on rank 0
  bool streamed_ = true;        // whether the last piece was published by streaming stores
  bool timed_alone_ = false;    // whether this step published its own piece and no other
  int size_class_ = 0;          // of the call
  double seconds_ = 0;          // of work in this step
  bool in_flight_ = false;
  Workspace workspace_;
  std::string failure_;
};

}  // namespace loosestep::shm
