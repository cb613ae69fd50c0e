// Messages that wait for receives, or receives that wait for messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <utility>

namespace loosestep::simulated {

struct Address {
  std::uint32_t from, to;
  std::uint64_t tag;
  bool operator==(const Address&) const = default;
};

struct Hash {
  std::size_t operator()(const Address& address) const {
    std::uint64_t mixed = (std::uint64_t(address.from) << 32 | address.to) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ address.tag) * 0xbf58476d1ce4e5b9u;
    return mixed ^ mixed >> 31;
  }
};

// A queue for each address, first in, first out.
template <class Entry> class Mailbox {
 public:
  void put(const Address& address, Entry entry) { queues[address].push_back(std::move(entry)); }

  std::optional<Entry> take(const Address& address) {
    const auto queue = queues.find(address);
    if (queue == queues.end()) return std::nullopt;
    std::optional<Entry> taken(std::move(queue->second.front()));
    queue->second.pop_front();
    if (queue->second.empty()) queues.erase(queue);  // tags are not used again
    return taken;
  }

  void clear() { queues.clear(); }

 private:
  std::unordered_map<Address, std::list<Entry>, Hash> queues;
};

}  // namespace loosestep::simulated
