// A team of ranks, one thread each, with split-phase collectives: post, compute something else, complete.
//
// The algorithm, without a lock on the data path:
// 1. The n-th post of a rank has ticket n, on every rank; ticket t uses slot t mod 2 * outstanding.
// 2. A post fills the rank's entry of the slot and counts itself. The last one compares all entries and arms
// the slot. From then on any thread inside complete() claims chunks and does them for all ranks, so that a
// rank whose thread has no core does not delay the others.
// 3. A mix involves only neighbours: a rank waits for their posts, sums into its workspace, announces that it
// has read, waits until its own readers have announced the same, and copies the workspace into its buffer.
// 4. A slot can be reused, because complete(t) ends only when every rank has completed ticket t -
// outstanding, and a post requires that its rank has completed its ticket - outstanding: so all ranks have
// finished with the slot's previous ticket. Global collectives imply this; a rank in mixes with distant ranks
// may have to wait.
// 5. After an abort or a mismatch a rank returns at once, while others may still use its arrays. They must
// stay allocated until every rank has returned, and their values are undefined; the binding holds references.
#pragma once

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cpu/threads.hpp"
#include "shared/collective_args.hpp"
#include "shared/rank_state.hpp"
#include "shared/slot.hpp"
#include "shared/wait_policy.hpp"

namespace loosestep::shared {

struct Mismatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Outcome { done, waiting, aborted };

struct Posted {
  Ticket ticket;
  bool entered;  // false after an abort or a mismatch: the buffers are not used
};

class Team {
 public:
  explicit Team(int size, int outstanding = 32)
      : size_(size),
        outstanding_(static_cast<Ticket>(outstanding)),
        may_spin_(cores() >= size),
        ranks_(size) {
    for (int i = 0; i < 2 * outstanding; ++i) slots_.push_back(std::make_unique<Slot>(size));
  }

  int size() const { return size_; }
  std::size_t slots() const { return slots_.size(); }

  // Post a collective without blocking. Throws where the rank has too many open tickets or is in a call on
  // another thread.
  Posted post(int rank, CollectiveArgs what) {
    const CallGuard busy(ranks_[rank], rank);
    RankState& state = ranks_[rank];
    const Posted posted{state.next, !halted(state.next)};
    if (posted.entered) {
      const Ticket open = state.next - state.completed.load(std::memory_order_relaxed);
      if (open >= outstanding_) throw std::runtime_error(too_many_tickets(rank, outstanding_));
      enter(rank, state.next, std::move(what));
    }
    ++state.next;
    return posted;
  }

  // Complete the tickets of this rank up to and including `ticket`, or as many as the time allows.
  Outcome complete(int rank, Ticket ticket, Clock::time_point deadline) {
    const CallGuard busy(ranks_[rank], rank);
    RankState& state = ranks_[rank];
    if (ticket >= state.next) throw std::invalid_argument(never_posted(rank, ticket));
    for (Ticket t = state.completed.load(std::memory_order_relaxed); t <= ticket; ++t) {
      const Outcome outcome = advance(rank, t, deadline);
      state.parker.set_awaited(Parker::no_rank);
      if (outcome != Outcome::done) return outcome;
      state.completed.store(t + 1, std::memory_order_seq_cst);
      wake_waiters_for(rank);
    }
    return aborted_.load() ? Outcome::aborted : Outcome::done;
  }

  // Return whether complete() would neither wait nor compute: then it is not worth releasing the GIL.
  bool is_complete(int rank, Ticket ticket) {
    const Ticket completed = ranks_[rank].completed.load();
    return ticket < completed || (ticket == completed && slot_of(ticket).finished.load() == ticket + 1);
  }

  std::vector<int> missing(Ticket ticket) const {
    std::vector<int> ranks;
    for (int rank = 0; rank < size_; ++rank)
      if (ranks_[rank].posted.load() <= ticket) ranks.push_back(rank);
    return ranks;
  }

  void abort() {
    aborted_.store(true, std::memory_order_seq_cst);
    wake_all();
  }

 private:
  static constexpr int done = -3,
                       more = -4;  // results of step() other than the rank or ranks that it waits for

  Slot& slot_of(Ticket ticket) { return *slots_[ticket % slots_.size()]; }

  bool halted(Ticket ticket) const { return aborted_.load() || ticket >= failed_.load(); }

  void enter(int rank, Ticket ticket, CollectiveArgs what) {
    Slot& slot = slot_of(ticket);
    slot.enter(rank, std::move(what));
    ranks_[rank].posted.store(ticket + 1, std::memory_order_seq_cst);
    const bool last = slot.arrivals.fetch_add(1, std::memory_order_acq_rel) + 1 == size_;
    if (last) arm(slot, ticket);
    wake_waiters_for(rank);
  }

  void arm(Slot& slot, Ticket ticket) {
    slot.arrivals.store(0, std::memory_order_relaxed);
    if (std::string text = mismatch(slot.all_args); !text.empty()) return fail(ticket, std::move(text));
    slot.prepare();
    const bool mix = slot.all_args.front().kind == Kind::mix;
    // No other thread can claim a chunk before the slot is armed: all are done here.
    if (!mix && slot.work_if_small()) slot.finished.store(ticket + 1, std::memory_order_seq_cst);
    slot.armed.store(ticket + 1, std::memory_order_seq_cst);
    if (mix) return;
    wake_waiters_for(Parker::all_ranks);
  }

  Outcome advance(int rank, Ticket ticket, Clock::time_point deadline) {
    Parker& parker = ranks_[rank].parker;
    for (Backoff backoff(may_spin_);;) {
      if (aborted_.load()) return Outcome::aborted;
      if (ticket >= failed_.load()) throw Mismatch(failure());
      const int awaited = step(rank, ticket);
      if (awaited == done) return Outcome::done;
      if (Clock::now() >= deadline) return Outcome::waiting;
      if (awaited == more || backoff.pause()) continue;
      if (parker.awaited() == awaited)
        parker.sleep_until(deadline);
      else
        parker.set_awaited(awaited);  // and check once more before sleeping
    }
  }

  // Do a bounded amount of work for the ticket; return `more`, `done` or whom the rank waits for.
  int step(int rank, Ticket ticket) {
    Slot& slot = slot_of(ticket);
    if (slot.all_args[rank].kind == Kind::mix) return step_mix(rank, ticket, slot);
    if (slot.armed.load() != ticket + 1) return Parker::all_ranks;
    if (slot.finished.load() == ticket + 1) return done;
    if (!slot.has_unclaimed()) return Parker::all_ranks;
    if (!slot.help()) return more;
    slot.finished.store(ticket + 1, std::memory_order_seq_cst);
    wake_waiters_for(Parker::all_ranks);
    return done;
  }

  int step_mix(int rank, Ticket ticket, Slot& slot) {
    const CollectiveArgs& mine = slot.all_args[rank];
    MixProgress& mix = slot.mixes[rank];
    for (; mix.admitted < mine.ranks.size(); ++mix.admitted) {
      const int source = mine.ranks[mix.admitted];
      if (ranks_[source].posted.load() <= ticket) return source;
      if (!check_edge(rank, source, ticket, slot)) return more;
      mix.sources[mix.admitted] = slot.all_args[source].buf;
    }
    if (mix.computed < mine.size) return slot.mix_compute(rank), more;
    if (!mix.announced) announce_read(rank, ticket, slot);
    for (; mix.awaited < mine.readers.size(); ++mix.awaited) {
      const int reader = mine.readers[mix.awaited];
      if (ranks_[reader].posted.load() <= ticket) return reader;
      if (!check_edge(reader, rank, ticket, slot)) return more;
      if (slot.has_read[reader].load() != ticket + 1) return reader;
    }
    if (mix.copied < mine.size) return slot.mix_copy(rank), more;
    return first_rank_behind(ticket);
  }

  void announce_read(int rank, Ticket ticket, Slot& slot) {
    slot.mixes[rank].announced = true;
    slot.has_read[rank].store(ticket + 1, std::memory_order_seq_cst);
    wake_waiters_for(rank);
  }

  // Check that both ranks know of the edge: a rank that does not know its reader would overwrite what it
  // reads.
  bool check_edge(int reader, int source, Ticket ticket, const Slot& slot) {
    std::string text = edge_mismatch(reader, slot.all_args[reader], source, slot.all_args[source]);
    if (text.empty()) return true;
    fail(ticket, std::move(text));
    return false;
  }

  // Return the first rank that is `outstanding` tickets behind (4 above), or `done`.
  int first_rank_behind(Ticket ticket) const {
    for (int rank = 0; rank < size_; ++rank)
      if (ranks_[rank].completed.load() + outstanding_ <= ticket) return rank;
    return done;
  }

  // Record the failure of a ticket; the earliest one counts. Tickets before it can still be completed.
  void fail(Ticket ticket, std::string text) {
    {
      const std::lock_guard lock(failure_mutex_);
      if (ticket < failed_.load()) {
        failure_ = std::move(text);
        failed_.store(ticket, std::memory_order_seq_cst);
      }
    }
    wake_all();
  }

  std::string failure() const {
    const std::lock_guard lock(failure_mutex_);
    return failure_;
  }

  void wake_waiters_for(int whom) {
    for (RankState& state : ranks_)
      if (state.parker.awaited() == whom) state.parker.wake();
  }

  void wake_all() {
    for (RankState& state : ranks_) state.parker.wake();
  }

  int size_;
  Ticket outstanding_;
  bool may_spin_;
  std::vector<RankState> ranks_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::atomic<bool> aborted_{false};
  std::atomic<Ticket> failed_{std::numeric_limits<Ticket>::max()};
  mutable std::mutex failure_mutex_;
  std::string failure_;
};

}  // namespace loosestep::shared
