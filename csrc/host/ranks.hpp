// Collectives between the processes of one host, over memory that they all map.
//
// Every rank puts out the same sequence of pieces: piece number p lies in its room p mod R, its counter then
// says p + 1. A step is: put out my piece, wait until everybody has, take what I need. Who waits for a piece
// t may put out up to `a` pieces of the same call beyond it, where R = 2 a + 2. So
// - room p mod R is free for piece p + R: p + R <= t + a, and who has put out t - 1 has taken t - 2 - a >= p;
// - the ranks' calls are compared before the first piece of each is taken: all see the same mismatch, none
// goes
//   on, and no length but one's own is ever believed. Two calls are kept: who begins one has seen all begin
//   the one before it, so nobody looks at those before that;
// - a call is a number of steps and may be left between any two and gone on with (Outcome::waiting).
#pragma once

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>

#include "cpu/threads.hpp"
#include "host/layout.hpp"
#include "host/stores.hpp"
#include "host/work.hpp"
#include "shared/team.hpp"

namespace loosestep::host {

using shared::Kind;
using shared::Mismatch;
using shared::Outcome;
using shared::Post;

// The counter that a call waits for, and what it must reach; nobody's where no call waits.
struct Late {
  Counter* other = nullptr;
  std::uint32_t number = 0;
};

class Ranks {
 public:
  Ranks(std::byte* memory, int size, int rank, bool create)
      : layout_(memory, size, create),
        size_(size),
        rank_(rank),
        patience_(cores() >= size),
        ahead_(rooms_of(size) / 2 - 1),
        put_out_(mine().published.value.load()),
        scratch_(size) {}

  Lane& lane(int rank) const { return layout_.lane(rank); }
  Lane& mine() const { return lane(rank_); }

  // Begins a collective, or goes on with the one that an earlier call left when its time was up. One thread
  // at a time: two would race on the state of the call.
  Outcome run(const Post& post, Clock::time_point deadline) {
    if (aborted()) return Outcome::aborted;
    if (!failure_.empty()) throw Mismatch(failure_);
    if (under_way_)
      require_same(post);
    else
      begin(post);
    for (; step_ < steps_; ++step_, awaited_ = 0)
      if (const Outcome outcome = advance(deadline); outcome != Outcome::done) return outcome;
    under_way_ = false;
    return Outcome::done;
  }

  // Of the call that run() has left.
  Late late() const { return {awaited_ < size_ ? &lane(awaited_).published : nullptr, number() + 1}; }

  // Pieces that this rank has put out so far: any thread may look whether it moves.
  std::uint32_t moved() const { return mine().published.value.load(std::memory_order_relaxed); }

  void abort() { layout_.head().aborted.store(true, std::memory_order_release); }
  bool aborted() const { return layout_.head().aborted.load(std::memory_order_acquire); }

 private:
  void begin(const Post& post) {
    const std::size_t pieces = (post.size * bytes_of(post.dtype) + piece_bytes - 1) / piece_bytes;
    post_ = post;
    shares_ = post.kind == Kind::all_reduce && size_ > 2 && post.size * bytes_of(post.dtype) > worth_sharing;
    steps_ = std::max<std::size_t>(pieces, 1) * (shares_ ? 2 : 1);
    step_ = 0, awaited_ = 0, spent_ = 0;
    class_ = Stores::size_of(pieces);
    first_ = put_out_;
    mine().calls[++mine().begun % 2] = Call::of(post);
    under_way_ = true;
  }

  void require_same(const Post& post) const {
    if (agree(post, post_) && post.buf == post_.buf && post.other == post_.other &&
        post.weight == post_.weight)
      return;
    throw std::logic_error("rank " + std::to_string(rank_) + " is in " + describe(post_) +
                           ", which is not done: the same call must be repeated, not " + describe(post));
  }

  Outcome advance(Clock::time_point deadline) {
    if (aborted()) return Outcome::aborted;
    if (put_out_ == number()) put_out(), in_step_ = true;
    for (; awaited_ < size_; ++awaited_)
      if (const Outcome outcome = await(lane(awaited_).published, deadline); outcome != Outcome::done)
        return outcome;
    if (step_ == 0) compare();
    work(step_, [](auto&& step) { step.take(); });
    learn();
    return Outcome::done;
  }

  Outcome await(Counter& other, Clock::time_point deadline) {
    patience_.begin();
    while (!other.reached(number() + 1)) {
      if (aborted()) return Outcome::aborted;
      if (patience_.spin() || go_ahead()) continue;
      if (Clock::now() >= deadline) return Outcome::waiting;
      if (patience_.yield()) continue;
      other.sleep_until(number() + 1, deadline);
    }
    patience_.end();
    return Outcome::done;
  }

  std::uint32_t number() const { return first_ + static_cast<std::uint32_t>(step_); }

  // Another piece of this call, while the others are late; a share must wait for what it is made of.
  bool go_ahead() {
    if (shares_ || step_of_next() == steps_ || step_of_next() > step_ + ahead_) return false;
    put_out(), in_step_ = false;
    return true;
  }

  std::size_t step_of_next() const { return put_out_ - first_; }

  void put_out() {
    streams_ = Stores::streams(lane(0).streams.load(std::memory_order_relaxed), class_);
    work(step_of_next(), [](auto&& step) { step.fill(); });
    ++put_out_;
    mine().published.advance();
  }

  // All ranks say the same sentence: the first that differs from rank 0.
  void compare() {
    const Post first = lane(0).calls[mine().begun % 2].post();
    for (int rank = 1; rank < size_; ++rank) {
      const Post other = lane(rank).calls[mine().begun % 2].post();
      if (agree(other, first)) continue;
      failure_ = disagreement(rank, other, 0, first);
      throw Mismatch(failure_);
    }
  }

  template <class Do> void work(std::size_t step, Do what) {
    if (!measured()) return act(step, what);
    const Clock::time_point start = Clock::now();
    act(step, what);
    spent_ += std::chrono::duration<double>(Clock::now() - start).count();
  }

  template <class Do> void act(std::size_t index, Do what) {
    const auto number = first_ + static_cast<std::uint32_t>(index);
    const Step step{layout_, size_, rank_, post_, index, number, mine().begun, shares_, streams_};
    if (post_.dtype == shared::Dtype::float32)
      what(Work<float>(step, scratch_));
    else
      what(Work<double>(step, scratch_));
  }

  bool measured() const {
    return rank_ == 0 && post_.kind == Kind::all_reduce && bytes_of_piece() >= worth_streaming;
  }

  std::size_t bytes_of_piece() const {
    const std::size_t before = (shares_ ? step_ / 2 : step_) * piece_bytes;
    return std::min(piece_bytes, post_.size * bytes_of(post_.dtype) - before);
  }

  // What the piece just taken cost rank 0, the waiting left out, if its step was for no other piece.
  void learn() {
    if (!measured() || (shares_ && step_ % 2 == 0)) return;
    if (in_step_) stores_.took(class_, streams_, spent_ / static_cast<double>(bytes_of_piece()));
    mine().streams.store(stores_.said(), std::memory_order_relaxed);
    in_step_ = false, spent_ = 0;
  }

  // Below it a second meeting costs more than reading every rank's piece.
  static constexpr std::size_t worth_sharing = 16 * 1024;

  Layout layout_;
  int size_, rank_;
  Patience patience_;
  std::size_t ahead_;
  std::uint32_t put_out_, first_ = 0;  // pieces that this rank has put out; when the call began
  Post post_;
  std::size_t step_ = 0, steps_ = 0;
  int awaited_ = 0;  // ranks below it have put out this step's piece
  bool shares_ = false;
  Stores stores_;         // rank 0's
  bool streams_ = true;   // the last piece was put out so
  bool in_step_ = false;  // it is the step's own, and the only one
  int class_ = 0;         // of this call, by its size
  double spent_ = 0;      // seconds of work in this step
  bool under_way_ = false;
  Scratch scratch_;
  std::string failure_;
};

}  // namespace loosestep::host
