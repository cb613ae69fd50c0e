// Collectives between the processes of one host, over memory that they all map.
//
// Every rank puts out the same sequence of pieces: piece number p lies in its room p mod 2, its counter then
// says p + 1. A step is: put out my piece, wait until everybody has, take what I need. So
// - room p mod 2 is free for piece p + 2: whoever has put out p + 1 is through with taking p;
// - every piece travels with its call, compared by every rank before it takes: all see the same mismatch at
//   the same step, none goes on, and no length but one's own is ever believed;
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

class Ranks {
 public:
  Ranks(std::byte* memory, int size, int rank, bool create)
      : layout_(memory, size, create),
        size_(size),
        rank_(rank),
        patience_(cores() >= size),
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
    if (put_out_ == number()) put_out();
    for (; awaited_ < size_; ++awaited_)
      if (const Outcome outcome = await(lane(awaited_).published, deadline); outcome != Outcome::done)
        return outcome;
    compare();
    work([](auto&& step) { step.take(); });
    learn();
    return Outcome::done;
  }

  Outcome await(Counter& other, Clock::time_point deadline) {
    patience_.begin();
    while (!other.reached(put_out_)) {
      if (aborted()) return Outcome::aborted;
      if (patience_.spin()) continue;
      if (Clock::now() >= deadline) return Outcome::waiting;
      if (patience_.yield()) continue;
      other.sleep_until(put_out_, deadline);
    }
    patience_.end();
    return Outcome::done;
  }

  std::uint32_t number() const { return first_ + static_cast<std::uint32_t>(step_); }

  void put_out() {
    work([](auto&& step) { step.fill(); });
    mine().calls[number() % 2] = Call::of(post_);
    mine().calls[number() % 2].streams = stores_.said();
    ++put_out_;
    mine().published.advance();
  }

  // All ranks say the same sentence: the first that differs from rank 0.
  void compare() {
    const Post first = lane(0).calls[number() % 2].post();
    for (int rank = 1; rank < size_; ++rank) {
      const Post other = lane(rank).calls[number() % 2].post();
      if (agree(other, first)) continue;
      failure_ = disagreement(rank, other, 0, first);
      throw Mismatch(failure_);
    }
  }

  template <class Do> void work(Do what) {
    if (!measured()) return act(what);
    const Clock::time_point start = Clock::now();
    act(what);
    spent_ += std::chrono::duration<double>(Clock::now() - start).count();
  }

  template <class Do> void act(Do what) {
    const Step step{layout_, size_, rank_, post_, step_, number(), shares_, streams()};
    if (post_.dtype == shared::Dtype::float32)
      what(Work<float>(step, scratch_));
    else
      what(Work<double>(step, scratch_));
  }

  bool streams() const { return Stores::streams(said_, class_); }
  bool measured() const {
    return rank_ == 0 && post_.kind == Kind::all_reduce && bytes_of_piece() >= worth_streaming;
  }

  std::size_t bytes_of_piece() const {
    const std::size_t before = (shares_ ? step_ / 2 : step_) * piece_bytes;
    return std::min(piece_bytes, post_.size * bytes_of(post_.dtype) - before);
  }

  // What the piece just taken cost rank 0, the waiting left out; and which stores fill the next.
  void learn() {
    if (shares_ && step_ % 2 == 0) return;
    if (measured()) stores_.took(class_, streams(), spent_ / static_cast<double>(bytes_of_piece()));
    said_ = lane(0).calls[number() % 2].streams, spent_ = 0;
  }

  // Below it a second meeting costs more than reading every rank's piece.
  static constexpr std::size_t worth_sharing = 16 * 1024;

  Layout layout_;
  int size_, rank_;
  Patience patience_;
  std::uint32_t put_out_, first_ = 0;  // pieces that this rank has put out; when the call began
  Post post_;
  std::size_t step_ = 0, steps_ = 0;
  int awaited_ = 0;  // ranks below it have put out this step's piece
  bool shares_ = false;
  Stores stores_;            // rank 0's
  std::uint8_t said_ = 255;  // by rank 0 with the last piece
  int class_ = 0;            // of this call, by its size
  double spent_ = 0;         // seconds of work on the piece under way
  bool under_way_ = false;
  Scratch scratch_;
  std::string failure_;
};

}  // namespace loosestep::host
