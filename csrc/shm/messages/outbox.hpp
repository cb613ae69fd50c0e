// What a rank sends to those of its host. Short payloads are copied at once. Long ones are left where they
// are for ranks that can read this process's memory; others get them piece by piece, as far as there is room,
// and those under way take turns.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "shm/messages/message_memory.hpp"
#include "shm/messages/message_operation.hpp"

namespace loosestep::shm {

class Outbox {
 public:
  Outbox(const MessageMemory& memory, int rank)
      : memory_(memory), rank_(rank), lines_(static_cast<std::size_t>(memory.size())) {}

  // Begin to send an array to each of `to`. A short one may be changed at once, a long one when its parts of
  // the operation are done.
  void send(std::span<const int> to, const Span& what, std::uint64_t tag, double note, Operation& operation) {
    if (!is_short(what)) return send_long(to, what, tag, note, operation);
    for (const int rank : to)
      if (line(rank).unstarted > 0 || !put_header(rank, SlotKind::whole, what, tag, note, 0))
        keep(rank, what, tag, note);
    if (operation.mix) operation.mix->sent = what.bytes;
    operation.finish(static_cast<int>(to.size()));
  }

  // Tell a rank that this one has copied a message of its.
  void send_pulled(int rank, std::uint64_t number) {
    if (line(rank).unstarted > 0 || !put_header(rank, SlotKind::pulled, {}, 0, 0.0, number))
      queue({{}, 0, 0.0, {rank}, nullptr, SlotKind::pulled}).number = number;
  }

  // Note that a message of this rank was copied by its receiver.
  void end_pull(std::uint64_t number) {
    const auto found = pulls_.extract(number);
    if (!found.empty()) found.mapped()->finish();
  }

  bool empty() const { return queue_.empty(); }

  // Send as much as there is room for, but one piece at most; return whether anything went.
  bool advance() {
    if (queue_.empty()) return false;
    bool moved = false, put = false;
    for (Line& line : lines_) line.blocked = false;
    for (auto next = queue_.begin(); next != queue_.end();) {
      const auto item = next++;
      moved |= start(*item);
      if (item->started < item->to.size()) continue;
      if (item->kind != SlotKind::start) {
        queue_.erase(item);
        continue;
      }
      if (!put && (put = put_piece(*item))) queue_.splice(queue_.end(), queue_, item);
      if (item->gone == item->what.bytes) end(item);
    }
    return moved || put;
  }

  // Let those that sleep know what was sent since the last time.
  void flush() {
    for (int rank = 0; rank < memory_.size(); ++rank)
      if (Line& to = line(rank); to.told != to.next) {
        to.told = to.next;
        memory_.ring(rank_, rank).published.store(to.next, std::memory_order_seq_cst);
        memory_.doorbell(rank).ring_if_asleep();
      }
  }

  // Return whether advance() would send anything.
  bool can_advance() {
    return std::ranges::any_of(queue_, [this](const Outgoing& each) {
      if (each.started < each.to.size()) return has_room(each.to[each.started], 1);
      return has_slots(each) && free_piece() >= 0;
    });
  }

 private:
  static constexpr std::size_t streamed_from = 256 << 10;  // bytes of a piece

  struct Outgoing {
    Span what;
    std::uint64_t tag;
    double note;
    std::vector<int> to;   // several messages may go to one rank
    Operation* operation;  // of a payload that goes in pieces
    SlotKind kind = SlotKind::start;
    Bytes own{};
    std::uint64_t number = 0;  // of the first message; the others have the next ones
    std::size_t started = 0;   // messages whose header has gone, in order
    std::size_t gone = 0;      // bytes
  };

  struct Line {
    std::uint64_t next = 0;      // slots written
    std::uint64_t told = 0;      // ... and published
    std::uint64_t consumed = 0;  // slots read, when this was looked up
    std::size_t unstarted = 0;   // messages in the queue whose header has not gone
    bool blocked = false;        // one of them found no room
  };

  Line& line(int rank) { return lines_[static_cast<std::size_t>(rank)]; }
  bool is_short(const Span& what) const { return what.bytes <= MessageMemory::short_bytes(memory_.size()); }

  Outgoing& queue(Outgoing item) {
    item.number = numbers_;
    numbers_ += item.to.size();
    queue_.push_back(std::move(item));
    for (const int rank : queue_.back().to) ++line(rank).unstarted;
    return queue_.back();
  }

  void send_long(std::span<const int> to, const Span& what, std::uint64_t tag, double note,
                 Operation& operation) {
    std::vector<int> in_pieces;
    for (const int rank : to) {
      // Who sums reads the same memory as all of its neighbours and at once: that takes pieces.
      if (operation.mix || memory_.ring(rank_, rank).may_pull.load(std::memory_order_relaxed) == 0) {
        in_pieces.push_back(rank);
        continue;
      }
      const std::uint64_t number = numbers_;
      pulls_.emplace(number, &operation);
      if (line(rank).unstarted == 0 && put_header(rank, SlotKind::pull, what, tag, note, number))
        ++numbers_;
      else
        queue({what, tag, note, {rank}, nullptr, SlotKind::pull});
    }
    if (!in_pieces.empty()) queue({what, tag, note, std::move(in_pieces), &operation});
  }

  // Keep a copy of a short payload until there is room.
  void keep(int rank, const Span& what, std::uint64_t tag, double note) {
    Bytes own = uninitialized(what.bytes);
    copy_bytes(own.get(), what.data, what.bytes);
    Outgoing& kept = queue({what, tag, note, {rank}, nullptr, SlotKind::whole, std::move(own)});
    kept.what.data = kept.own.get();
  }

  bool has_room(int rank, std::uint64_t slots) {
    Line& to = line(rank);
    if (Ring::slots - (to.next - to.consumed) < slots)
      to.consumed = memory_.ring(rank_, rank).consumed.load(std::memory_order_seq_cst);
    return Ring::slots - (to.next - to.consumed) >= slots;
  }

  Slot& next_slot(int rank) { return memory_.ring(rank_, rank).slot[line(rank).next % Ring::slots]; }
  void publish(int rank, Slot& slot) { slot.stamp.store(++line(rank).next, std::memory_order_release); }

  bool put_header(int rank, SlotKind kind, const Span& what, std::uint64_t tag, double note,
                  std::uint64_t number) {
    if (!has_room(rank, 1)) return false;
    Slot& slot = next_slot(rank);
    slot.tag = tag, slot.message = number, slot.elements = what.elements, slot.bytes = what.bytes;
    slot.note = note, slot.kind = kind, slot.dtype = what.dtype;
    slot.address = reinterpret_cast<std::uintptr_t>(what.data);
    if (kind == SlotKind::whole)
      copy_bytes(memory_.payload(rank_, rank, line(rank).next), what.data, what.bytes);
    publish(rank, slot);
    return true;
  }

  // Send headers as far as there is room; those to one rank go in the order of the queue.
  bool start(Outgoing& item) {
    const std::size_t before = item.started;
    for (; item.started < item.to.size(); ++item.started) {
      const int rank = item.to[item.started];
      if (line(rank).blocked ||
          !put_header(rank, item.kind, item.what, item.tag, item.note, item.number + item.started))
        break;
      --line(rank).unstarted;
    }
    for (std::size_t k = item.started; k < item.to.size(); ++k) line(item.to[k]).blocked = true;
    return item.started > before;
  }

  // Return a piece that nobody reads, or -1; those used a moment ago come first, which may still be in a
  // cache.
  int free_piece() const {
    const auto pieces = MessageMemory::pieces(memory_.size());
    for (std::uint32_t k = 0; k < pieces; ++k)
      if (memory_.state(rank_, k).readers.load(std::memory_order_seq_cst) == 0) return static_cast<int>(k);
    return -1;
  }

  bool has_slots(const Outgoing& item) {
    return std::ranges::all_of(item.to, [&](int rank) {
      return has_room(rank, static_cast<std::uint64_t>(std::ranges::count(item.to, rank)));
    });
  }

  bool put_piece(Outgoing& item) {
    if (!has_slots(item)) return false;
    const int found = free_piece();
    memory_.doorbell(rank_).starved.store(found < 0, std::memory_order_relaxed);
    if (found < 0) return false;
    const auto piece = static_cast<std::uint32_t>(found);
    const std::size_t n = std::min(MessageMemory::piece_bytes, item.what.bytes - item.gone);
    // Lines that a distant core has just read are slow to write.
    copy_bytes(memory_.piece(rank_, piece), item.what.data + item.gone, n, n >= streamed_from);
    memory_.state(rank_, piece)
        .readers.store(static_cast<std::uint32_t>(item.to.size()), std::memory_order_relaxed);
    for (std::size_t k = 0; k < item.to.size(); ++k) {
      Slot& slot = next_slot(item.to[k]);
      slot.message = item.number + k, slot.bytes = n, slot.piece = piece, slot.kind = SlotKind::piece;
      publish(item.to[k], slot);
    }
    item.gone += n;
    if (item.operation->mix) item.operation->mix->sent = item.gone;
    return true;
  }

  void end(std::list<Outgoing>::iterator item) {
    item->operation->finish(static_cast<int>(item->to.size()));
    queue_.erase(item);
  }

  const MessageMemory& memory_;
  int rank_;
  std::vector<Line> lines_;  // by rank
  std::list<Outgoing> queue_;
  std::unordered_map<std::uint64_t, Operation*> pulls_;  // by message: whose payload is still to be copied
  std::uint64_t numbers_ = 0;
};

}  // namespace loosestep::shm
