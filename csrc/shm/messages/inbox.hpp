// What comes to a rank from those of its host. A message goes to the receive that was posted for its source
// and tag, in the order of both, or is kept until one is. Everything that comes is taken at once, so no
// message waits behind another; only what belongs to a Mix stays in its sender's pieces until it can be
// summed.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "shared/team.hpp"
#include "shm/messages/message_memory.hpp"
#include "shm/messages/message_operation.hpp"
#include "shm/messages/outbox.hpp"

namespace loosestep::shm {

class Inbox {
 public:
  // numbers: what the run calls these ranks, for errors. pulls: payloads may be copied from others' memory.
  Inbox(const MessageMemory& memory, int rank, std::vector<int> numbers, Outbox& outbox, bool pulls)
      : memory_(memory),
        rank_(rank),
        numbers_(std::move(numbers)),
        outbox_(outbox),
        pulls_(pulls),
        lines_(index(memory.size())) {}

  // Let the next message of that source and tag be written to where `posted` says.
  void post(int source, const Posted& posted) {
    Line& line = lines_[index(source)];
    const auto found =
        std::ranges::find_if(line.unexpected, [&](const auto& each) { return each->tag == posted.tag; });
    if (found == line.unexpected.end()) return line.posted.push_back(posted);
    const std::shared_ptr<Message> message = std::move(*found);
    line.unexpected.erase(found);
    meet(source, *message, posted);
    if (message->whole()) finish(source, *message);
  }

  // Take what has come from a rank, `most` pieces at most; return whether anything had.
  bool take(int source, int most) {
    Line& line = lines_[index(source)];
    Ring& ring = memory_.ring(source, rank_);
    const std::uint64_t before = line.next;
    while (most > 0) {
      const Slot& slot = ring.slot[line.next % Ring::slots];
      if (slot.stamp.load(std::memory_order_acquire) != line.next + 1) break;
      most -= take_slot(source, line, slot);
      ++line.next;
    }
    if (line.next == before) return false;
    ring.consumed.store(line.next, std::memory_order_seq_cst);
    memory_.doorbell(source).ring_if_asleep();
    return true;
  }

  // Copy the next part of a payload that a rank has left in its memory; return whether anything was copied.
  bool pull(int source) {
    Line& line = lines_[index(source)];
    if (line.pulls.empty() || line.lost) return false;
    Message& first = *line.pulls.front();
    const auto again = [&](const auto& each) { return each.get() != &first && same(*each, first); };
    const bool several = std::ranges::any_of(line.pulls, again);
    const std::size_t n = read_part(source, first, several ? part_of_several : part_of_one);
    line.lost = n == 0;  // the process has ended, which others notice
    const std::byte* const from = first.content.data + first.come;
    for (const auto& each : line.pulls)
      if (again(each)) write(*each, from, n);  // while it is in a cache
    first.advance(n);
    parts_.fetch_add(1, std::memory_order_relaxed);
    for (const auto& each : line.pulls)
      if (each->whole()) came(source, *each), outbox_.send_pulled(source, each->number);
    std::erase_if(line.pulls, [](const auto& each) { return each->whole(); });
    return n > 0;
  }

  // Return whether anything has come that was not taken; to be asked by who is about to sleep.
  bool has_come() const {
    for (int source = 0; source < memory_.size(); ++source)
      if (memory_.ring(source, rank_).published.load(std::memory_order_seq_cst) != lines_[index(source)].next)
        return true;
    return false;
  }

  // Return whether the stamp of the next slot of any source is there, or something is to be copied.
  bool glance() const {
    for (int source = 0; source < memory_.size(); ++source) {
      const Line& line = lines_[index(source)];
      if (!line.pulls.empty() && !line.lost) return true;
      const std::uint64_t next = line.next;
      const Slot& slot = memory_.ring(source, rank_).slot[next % Ring::slots];
      if (slot.stamp.load(std::memory_order_acquire) == next + 1) return true;
    }
    return false;
  }

  std::uint64_t received() const { return received_.load(std::memory_order_relaxed); }
  std::uint64_t parts() const { return parts_.load(std::memory_order_relaxed); }

 private:
  // How much is copied at a time: several messages of the same memory share a cache.
  static constexpr std::size_t part_of_one = 2 << 20, part_of_several = 256 << 10;
  static constexpr std::size_t streamed_from = 4 << 20;  // bytes of a message

  struct Line {
    std::uint64_t next = 0;  // slots read
    std::vector<Posted> posted;
    std::vector<std::shared_ptr<Message>> coming;     // in pieces
    std::vector<std::shared_ptr<Message>> pulls;      // to be copied from the source's memory
    bool probed = false;                              // whether that is possible
    bool lost = false;                                // it was, and is no more
    std::deque<std::shared_ptr<Message>> unexpected;  // for which no receive was posted
  };

  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }

  // Take one slot; return 1 if it was a piece.
  int take_slot(int source, Line& line, const Slot& slot) {
    if (slot.kind == SlotKind::piece) return take_piece(source, line, slot), 1;
    if (slot.kind == SlotKind::pulled) return outbox_.end_pull(slot.message), 0;
    if (slot.kind == SlotKind::start) probe(source, line);
    Message message;
    message.address = slot.address;
    message.number = slot.message, message.tag = slot.tag, message.note = slot.note;
    message.content = {nullptr, slot.bytes, slot.elements, slot.dtype};
    const auto posted =
        std::ranges::find_if(line.posted, [&](const Posted& each) { return each.tag == slot.tag; });
    const bool expected = posted != line.posted.end();
    if (expected) {
      const Posted target = *posted;
      line.posted.erase(posted);
      meet(source, message, target);
    } else {
      message.keep();
    }
    if (slot.kind == SlotKind::whole) {
      write(message, memory_.payload(source, rank_, line.next), slot.bytes);
      came(source, message);
    }
    if (message.whole() && expected) return 0;
    const auto kept = std::make_shared<Message>(std::move(message));
    if (!kept->whole()) (slot.kind == SlotKind::pull ? line.pulls : line.coming).push_back(kept);
    if (!expected) line.unexpected.push_back(kept);
    return 0;
  }

  void take_piece(int source, Line& line, const Slot& slot) {
    const auto found =
        std::ranges::find_if(line.coming, [&](const auto& each) { return each->number == slot.message; });
    const std::shared_ptr<Message> message = *found;
    parts_.fetch_add(1, std::memory_order_relaxed);
    if (Mix* const mix = message->mix(); mix != nullptr) {
      mix->sources[message->target.place].pieces.emplace_back(slot.piece, slot.bytes);
      message->come += slot.bytes;
    } else {
      write(*message, memory_.piece(source, slot.piece), slot.bytes);
      memory_.release(source, slot.piece);
    }
    if (!message->whole()) return;
    line.coming.erase(found);
    came(source, *message);
  }

  // Find out, once, whether this process can read the memory of a source, and let it know.
  void probe(int source, Line& line) {
    if (line.probed || !pulls_) return;
    line.probed = true;
    memory_.ring(source, rank_).may_pull.store(memory_.process(source).may_be_read());
  }

  std::size_t read_part(int source, Message& message, std::size_t most) {
    message.place();
    return memory_.process(source).read(message.address + message.come, message.content.data + message.come,
                                        std::min(most, message.content.bytes - message.come));
  }

  static bool same(const Message& a, const Message& b) {
    return a.address == b.address && a.content.like(b.content) && a.come == b.come;
  }

  // Write the next bytes of a message where they belong: those of long ones past the caches.
  void write(Message& message, const std::byte* from, std::size_t n) {
    message.place();
    std::byte* const to = message.content.data + message.come;
    copy_bytes(to, from, n, message.content.bytes >= streamed_from);
    message.advance(n);
  }

  // Give a message its receive, and what of it has come.
  void meet(int source, Message& message, const Posted& posted) {
    if (!message.content.like(posted.into)) refuse(source, message, posted);
    message.target = posted;
    if (Mix* const mix = message.mix(); mix != nullptr) {
      Mix::Source& term = mix->sources[posted.place];
      --mix->awaited;
      term.room = std::move(message.own), term.in_room = message.come;
    } else {
      copy_bytes(posted.into.data, message.content.data, message.come);
      message.content.data = posted.into.data;
      message.own.reset();
    }
  }

  [[noreturn]] void refuse(int source, const Message& message, const Posted& posted) const {
    const auto name = [this](int rank) { return "worker " + std::to_string(numbers_[index(rank)]); };
    throw shared::Mismatch(name(source) + " sent " + described(message.content) + " to " + name(rank_) +
                           ", which expects " + described(posted.into) + " in round " +
                           std::to_string(posted.operation->round));
  }

  // Count a message that is whole, and tell its receive.
  void came(int source, Message& message) {
    received_.fetch_add(1, std::memory_order_relaxed);
    if (message.target.operation) finish(source, message);
  }

  void finish(int source, const Message& message) {
    Operation& operation = *message.target.operation;
    if (operation.mix) return;  // it is done when the sum is
    if (operation.notes) operation.notes->emplace_back(numbers_[index(source)], message.note);
    operation.finish();
  }

  const MessageMemory& memory_;
  int rank_;
  std::vector<int> numbers_;
  Outbox& outbox_;
  bool pulls_;
  std::vector<Line> lines_;  // by source
  std::atomic<std::uint64_t> received_{0}, parts_{0};
};

}  // namespace loosestep::shm
