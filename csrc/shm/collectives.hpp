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
// A call that may be done in place (Forms) begins with a step whose piece is empty. Once all ranks have
// published it each knows where all vectors lie. If that is in the arena for all that are read by others, the
// rest of the call is one more empty piece, which a rank publishes when it has done its part (DirectWork);
// else the call goes on as any other.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "cpu/threads.hpp"
#include "shared/team.hpp"
#include "shm/arena.hpp"
#include "shm/call.hpp"
#include "shm/collective_step.hpp"
#include "shm/direct_step.hpp"
#include "shm/layout.hpp"

namespace loosestep::shm {

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

  // From the next call on look for vectors in `arena`, if there is one. All ranks call it, between the same
  // calls.
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
    for (; step_ < call_.steps; ++step_, awaited_rank_ = 0)
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
    call_ = Call(args, forms_, size_, arena_ != nullptr);
    step_ = 0, awaited_rank_ = 0, seconds_ = 0;
    first_ = published_;
    mine().calls[++mine().calls_begun % 2] = CallHeader::of(args);
    mine().share.begin(mine().calls_begun);
    if (call_.opening > 0)
      mine().places[mine().calls_begun % 2] =
          arena_->holds(args.buf, call_.bytes()) ? arena_->offset_of(args.buf) + 1 : 0;
    in_flight_ = true;
  }

  void check_same_call(const CollectiveArgs& args) const {
    if (call_.same_as(args)) return;
    throw std::logic_error("rank " + std::to_string(rank_) + " is in " + describe(call_.args) +
                           ", which is not done: the same call must be repeated, not " + describe(args));
  }

  Outcome advance(Clock::time_point deadline) {
    if (aborted()) return Outcome::aborted;
    if (published_ == piece_number()) publish(), timed_alone_ = true;
    for (; awaited_rank_ < size_; ++awaited_rank_)
      if (const Outcome outcome = await(record(awaited_rank_).published, deadline); outcome != Outcome::done)
        return outcome;
    if (step_ == 0) compare_calls();
    if (step_ < call_.opening && find_vectors(step_of(0), *arena_, workspace_)) return work_direct();
    if (!call_.has_data(step_)) return Outcome::done;
    work(step_, [](auto&& step) { step.consume(); });
    record_cost();
    return Outcome::done;
  }

  // Do this rank's part of a call in place; all ranks have found the same, so all do.
  Outcome work_direct() {
    call_.become_direct();
    streamed_ = call_.may_stream() && streams();
    const Clock::time_point start = Clock::now();
    const bool whole = in_place([this](auto&& work) { return work.run([this] { return aborted(); }); });
    ++published_;
    if (!whole) return Outcome::aborted;
    if (rank_ == 0 && call_.may_stream())
      record_cost(std::chrono::duration<double>(Clock::now() - start).count(), call_.bytes());
    return Outcome::done;
  }

  // Do a piece of the share of the rank that is awaited; return whether there was one.
  bool help() {
    return call_.direct && in_place([this](auto&& work) { return work.work_on_share(awaited_rank_); });
  }

  template <class F> bool in_place(F f) {
    const Step step = step_of(0);
    return is_wide() ? f(DirectWork<double>(step, workspace_)) : f(DirectWork<float>(step, workspace_));
  }

  bool is_wide() const { return call_.args.dtype == shared::Dtype::float64; }

  Outcome await(FutexCounter& other, Clock::time_point deadline) {
    backoff_.begin();
    while (!other.reached(piece_number() + 1)) {
      if (aborted()) return Outcome::aborted;
      if (backoff_.spin() || publish_ahead() || help()) continue;
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
    if (call_.split || !call_.has_data(step_)) return false;
    if (next_step() == call_.steps || next_step() > step_ + most_ahead_) return false;
    publish(), timed_alone_ = false;
    return true;
  }

  std::size_t next_step() const { return published_ - first_; }

  void publish() {
    if (call_.has_data(next_step())) {
      streamed_ = streams();
      work(next_step(), [](auto&& step) { step.produce(); });
    }
    ++published_;
    mine().published.advance();
  }

  void compare_calls() {
    failure_ = first_disagreement(layout_, size_, mine().calls_begun);
    if (!failure_.empty()) throw Mismatch(failure_);
  }

  template <class F> void work(std::size_t step, F f) {
    if (!is_timed()) return run_step(step, f);
    const Clock::time_point start = Clock::now();
    run_step(step, f);
    seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
  }

  Step step_of(std::size_t step) const {
    const auto number = first_ + static_cast<std::uint32_t>(step);
    return {layout_, size_, rank_, call_, call_.data_step(step), number, mine().calls_begun, streamed_};
  }

  template <class F> void run_step(std::size_t index, F f) {
    const Step step = step_of(index);
    is_wide() ? f(StepWork<double>(step, workspace_)) : f(StepWork<float>(step, workspace_));
  }

  bool is_timed() const {
    return rank_ == 0 && call_.args.kind == Kind::all_reduce &&
           call_.bytes_of_piece(step_) >= min_streaming_bytes;
  }

  bool streams() const {
    return MeasuredStores::streams(record(0).streaming_sizes, call_.direct, call_.size_class);
  }

  // Record how long the last piece took rank 0, without the waiting, if no other piece was published in its
  // step.
  void record_cost() {
    if (!is_timed() || (call_.split && call_.data_step(step_) % 2 == 0)) return;
    if (timed_alone_) record_cost(seconds_, call_.bytes_of_piece(step_));
    timed_alone_ = false, seconds_ = 0;
  }

  void record_cost(double seconds, std::size_t bytes) {
    const double cost = seconds / static_cast<double>(bytes);
    stores_.record(mine().streaming_sizes, call_.direct, call_.size_class, streamed_, cost);
  }

  Layout layout_;
  int size_, rank_;
  std::shared_ptr<Arena> arena_;
  Forms forms_;
  AdaptiveBackoff backoff_;
  std::size_t most_ahead_;
  std::uint32_t published_, first_ = 0;  // pieces; first_: when the call began
  Call call_;
  std::size_t step_ = 0;
  int awaited_rank_ = 0;      // ranks below it have published this step's piece
  MeasuredStores stores_;     // used on rank 0
  bool streamed_ = true;      // whether the last piece was published by streaming stores
  bool timed_alone_ = false;  // whether this step published its own piece and no other
  double seconds_ = 0;        // of work in this step
  bool in_flight_ = false;
  Workspace workspace_;
  std::string failure_;
};

}  // namespace loosestep::shm
