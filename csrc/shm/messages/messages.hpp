// Messages between the processes of one host, and sums of what neighbours send (Mix).
//
// A rank sends by writing to memory that both map (message_memory.hpp); nothing else is needed of the other
// rank but that one of its threads takes what has come from time to time. Two that send each other long
// payloads before they receive do not block each other: every call moves both directions on. Any thread may
// call; one at a time is at work.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "shm/messages/inbox.hpp"
#include "shm/messages/mixes.hpp"
#include "shm/messages/outbox.hpp"

namespace loosestep::shm {

struct Transfer {
  int rank = 0;  // of the other side
  Span content;
};

class Messages {
 public:
  // numbers: what the run calls the ranks of this host, for errors. pulls: whether to copy long payloads from
  // the memory of other processes, where the system lets this one.
  Messages(std::byte* memory, std::vector<int> numbers, int rank, bool create, Mix::Fold fold,
           bool pulls = true)
      : memory_(memory, static_cast<int>(numbers.size()), create),
        rank_(rank),
        outbox_(memory_, rank),
        inbox_(memory_, rank, std::move(numbers), outbox_, pulls),
        mixes_(memory_, rank, fold) {
    memory_.process(rank).describe(probe_);
  }

  // Begin all sends and receives of an operation; return whether it is done. Throws Mismatch, now and ever
  // after, if a message that has come is not what is expected.
  bool begin(Operation& operation, std::span<const Transfer> sends, std::span<const Transfer> receives,
             std::uint64_t tag, double note, bool reported) {
    return begun(operation, reported, [&] {
      operation.left = static_cast<int>(sends.size() + receives.size());
      for (std::size_t k = 0, n = 0; k < sends.size(); k += n) {
        n = alike(sends.subspan(k));
        send(operation, sends.subspan(k, n), tag, note);
      }
      for (const Transfer& each : receives) inbox_.post(each.rank, {tag, each.content, &operation, 0});
    });
  }

  // Begin a sum whose terms are in the order of the operation's mix.
  bool begin_mix(Operation& operation, std::span<const int> readers, std::uint64_t tag, bool reported) {
    return begun(operation, reported, [&] {
      Mix& mix = *operation.mix;
      operation.left = static_cast<int>(readers.size()) + 1;
      mix.terms.resize(mix.sources.size());
      mix.awaited = static_cast<int>(
          std::ranges::count_if(mix.sources, [this](const auto& each) { return each.rank != rank_; }));
      mix.sent = readers.empty() ? mix.out.bytes : 0;
      mixes_.add(operation);
      sent_ += readers.size();
      if (!readers.empty()) outbox_.send(readers, mix.out, tag, 0.0, operation);
      for (std::size_t k = 0; k < mix.sources.size(); ++k)
        if (mix.sources[k].rank != rank_) inbox_.post(mix.sources[k].rank, {tag, mix.out, &operation, k});
    });
  }

  // Let the sum be written.
  void let_change(Operation& operation) {
    const std::lock_guard lock(mutex_);
    operation.mix->may_change = true;
  }

  // Move everything on until the operation is done, another one that is reported has ended, or the deadline
  // has passed; return whether it is done.
  bool wait(const Operation& operation, Clock::time_point deadline) {
    AdaptiveBackoff& backoff = this->backoff();
    backoff.begin();
    for (Clock::time_point moved = Clock::now();;) {
      const Turn turn = take_turn(&operation);
      if (turn == Turn::over) break;
      if (turn == Turn::idle && backoff.spin()) continue;
      const Clock::time_point now = Clock::now();
      if (now >= deadline) break;
      if (turn == Turn::moved) {
        moved = now;
        backoff.begin();
      } else if (!backoff.yield()) {
        own_cores_&& now - moved < awake ? std::this_thread::yield() : sleep(&operation, deadline);
      }
    }
    backoff.end();
    return is_done(operation);
  }

  bool is_done(const Operation& operation) const {
    const std::lock_guard lock(mutex_);
    return operation.left == 0;
  }

  // Return whether serve() may have something to do.
  bool has_work() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    return !lock || inbox_.glance() || outbox_.can_advance() || !mixes_.empty() || ended_ > 0;
  }

  // Move everything on as far as it goes without waiting; return whether anything did.
  bool serve() {
    const std::lock_guard lock(mutex_);
    if (!failure_.empty()) return false;
    bool moved = false;
    checked([&] {
      for (int turn = 0; turn < 64 && advance(); ++turn) moved = true;
      mixes_.make_room();
    });
    return moved;
  }

  // Sleep until something may have come, or the deadline.
  void rest(Clock::time_point deadline) { sleep(nullptr, deadline); }

  // Return how many reported operations have ended since the last call.
  std::size_t take_ended() {
    const std::lock_guard lock(mutex_);
    return std::exchange(ended_, 0);
  }

  std::uint64_t sent() const { return sent_.load(std::memory_order_relaxed); }
  std::uint64_t received() const { return inbox_.received(); }
  // Return a count that grows whenever a part of a payload comes.
  std::uint64_t parts() const { return inbox_.parts(); }

 private:
  // How long a thread gives its core away again and again before it sleeps, from which it takes long to be
  // woken: as long as another rank may be copying.
  static constexpr std::chrono::microseconds awake{200};

  enum class Turn { idle, moved, over };

  template <class Work> bool begun(Operation& operation, bool reported, Work work) {
    const std::lock_guard lock(mutex_);
    checked([&] {
      work();
      outbox_.flush();
      if (operation.left > 0) advance();
    });
    if (operation.left > 0 && reported) operation.ended = &ended_;
    return operation.left == 0;
  }

  // Return how many sends, from the first on, are of the same array: it is copied once for all.
  static std::size_t alike(std::span<const Transfer> sends) {
    const auto other = std::ranges::find_if(sends, [&](const Transfer& each) {
      return each.content.data != sends[0].content.data || !each.content.like(sends[0].content);
    });
    return static_cast<std::size_t>(other - sends.begin());
  }

  void send(Operation& operation, std::span<const Transfer> sends, std::uint64_t tag, double note) {
    to_.clear();
    for (const Transfer& each : sends) to_.push_back(each.rank);
    sent_ += sends.size();
    outbox_.send(to_, sends[0].content, tag, note, operation);
  }

  template <class Work> void checked(Work work) {
    if (!failure_.empty()) throw shared::Mismatch(failure_);
    try {
      work();
    } catch (const shared::Mismatch& error) {
      failure_ = error.what();
      throw;
    }
  }

  // Let both directions take turns: a piece that was just written is read by others meanwhile.
  bool advance() {
    bool moved = outbox_.advance();
    const int most = outbox_.empty() ? 4 : 1;
    for (int source = 0; source < memory_.size(); ++source) {
      moved |= inbox_.take(source, most);
      moved |= inbox_.pull(source);
    }
    moved |= !mixes_.empty() && mixes_.advance();
    outbox_.flush();
    if (moved) memory_.doorbell(rank_).ring_if_asleep();  // another thread, which may wait for this
    return moved;
  }

  // Spinning pays where each rank has a core.
  AdaptiveBackoff& backoff() {
    if (cores_ == 0) {
      cores_ = memory_.cores();
      own_cores_ = cores_ == 0 || cores_ >= memory_.size();
      backoff_ = AdaptiveBackoff(own_cores_);
    }
    return backoff_;
  }

  Turn take_turn(const Operation* operation) {
    const std::lock_guard lock(mutex_);
    bool moved = false;
    checked([&] { moved = advance(); });
    if (operation->left == 0 || ended_ > 0) return Turn::over;
    return moved ? Turn::moved : Turn::idle;
  }

  void sleep(const Operation* operation, Clock::time_point deadline) {
    Doorbell& bell = memory_.doorbell(rank_);
    bell.sleepers.fetch_add(1, std::memory_order_seq_cst);
    const std::uint32_t seen = bell.rung.load(std::memory_order_seq_cst);
    if (is_idle(operation)) bell.sleep(seen, deadline);
    bell.sleepers.fetch_sub(1, std::memory_order_relaxed);
  }

  bool is_idle(const Operation* operation) {
    const std::lock_guard lock(mutex_);
    if ((operation && operation->left == 0) || ended_ > 0) return false;
    return !inbox_.has_come() && !inbox_.glance() && !outbox_.can_advance();
  }

  MessageMemory memory_;
  int rank_;
  int cores_ = 0;                            // of all ranks; 0: not known yet
  bool own_cores_ = true;                    // there is one for each rank
  AdaptiveBackoff backoff_{true};            // these three are the waiting thread's
  mutable std::mutex mutex_;                 // guards the members below
  const std::uint64_t probe_ = probe_value;  // read by others, to see whether they can
  Outbox outbox_;
  Inbox inbox_;
  Mixes mixes_;
  std::vector<int> to_;
  std::size_t ended_ = 0;
  std::string failure_;
  std::atomic<std::uint64_t> sent_{0};
};

}  // namespace loosestep::shm
