// When each member of an allreduce has its result, by the messages of its form.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "simulated/network.hpp"
#include "simulated/recorded.hpp"

namespace loosestep::simulated {

namespace detail {

// The largest value of the last `width` indices that were added.
class WindowMaximum {
 public:
  explicit WindowMaximum(std::size_t width) : width(width) {}

  void add(std::size_t index, double value) {
    while (!kept.empty() && kept.back().second <= value) kept.pop_back();
    kept.emplace_back(index, value);
    while (kept.front().first + width <= index) kept.pop_front();
  }

  std::optional<double> largest(std::size_t index) {  // of the window that ends there
    while (!kept.empty() && kept.front().first + width <= index) kept.pop_front();
    return kept.empty() ? std::nullopt : std::optional(kept.front().second);
  }

 private:
  std::size_t width;
  std::deque<std::pair<std::size_t, double>> kept;  // falling
};

// Member i sends to i + 1, i + 2, ... at once, to member j what takes busy[j]: j has all when the last is there.
// In O(n): what i sends to j has left at at[i] + busy[i + 1] + ... + busy[j].
inline std::vector<double> scatter(const std::vector<double>& at, const std::vector<double>& busy, double latency) {
  const std::size_t n = at.size();
  std::vector<double> sums(2 * n + 1);  // of busy, around twice
  for (std::size_t i = 0; i < 2 * n; ++i) sums[i + 1] = sums[i] + busy[i % n];
  WindowMaximum sources(n - 1);
  std::vector<double> over(n);
  for (std::size_t i = 1; i < 2 * n; ++i) {
    if (i >= n) {
      const std::size_t j = i - n;
      const double own = at[j] + (sums[j + n] - sums[j + 1]);
      over[j] = std::max(own, sources.largest(i - 1).value() + sums[i + 1] + latency);
    }
    sources.add(i, at[i % n] - sums[i + 1]);
  }
  return over;
}

// The same where member i sends to each what takes busy[i], of which there are few different values.
inline std::vector<double> gather(const std::vector<double>& at, const std::vector<double>& busy, double latency) {
  const std::size_t n = at.size();
  std::vector<double> over(n), sizes = busy;
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  for (std::size_t j = 0; j < n; ++j) over[j] = at[j] + static_cast<double>(n - 1) * busy[j];
  for (const double size : sizes) {
    WindowMaximum sources(n - 1);
    for (std::size_t i = 1; i < 2 * n; ++i) {
      const double around = static_cast<double>(i) * size;
      if (const auto latest = i >= n ? sources.largest(i - 1) : std::nullopt)
        over[i - n] = std::max(over[i - n], *latest + around + latency);
      if (busy[i % n] == size) sources.add(i, at[i % n] - around);
    }
  }
  return over;
}

// Any links, and messages that wait for one another: hop k is from i to i + k. In O(n^2).
inline std::vector<double> hop_by_hop(const Network& network, const std::vector<std::uint32_t>& ranks,
                                      std::vector<double> at, const std::vector<double>& bytes, bool of_receiver,
                                      bool at_once) {
  const std::size_t n = at.size();
  std::vector<double> sent = at, whole = at;
  for (std::size_t hop = 1; hop < n; ++hop) {
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t to = (i + hop) % n;
      const double size = bytes[of_receiver ? to : i];
      sent[i] += network.busy(ranks[i], ranks[to], size);
      whole[to] = std::max(whole[to], sent[i] + network.latency(ranks[i], ranks[to]) + network.prices.lag_of(size, at_once ? n - 1 : 1));
    }
    if (at_once) continue;
    for (std::size_t i = 0; i < n; ++i) sent[i] = whole[i] = std::max(sent[i], whole[i]);
  }
  for (std::size_t i = 0; i < n; ++i) whole[i] = std::max(whole[i], sent[i]);
  return whole;
}

}  // namespace detail

// Return when each of these workers has the result, given when each asked for it. Hop k of a phase is from member i to
// member i + k. What a worker still has to send of an earlier request goes first.
inline std::vector<double> all_reduce(Network& network, const AllReduce& asked, const std::vector<std::uint32_t>& ranks,
                                      std::vector<double> at) {
  const std::size_t n = ranks.size();
  std::vector<double> bytes(n);  // of the chunk that each folds
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t count = asked.elements * (i + 1) / n - asked.elements * i / n;
    bytes[i] = static_cast<double>((asked.whole ? asked.elements : count) * asked.itemsize);
    at[i] = std::max(at[i], network.free[ranks[i]]);
  }
  if (n < 2) return at;
  const bool fast = asked.at_once && network.latency.uniform() && network.bandwidth.uniform();
  double all = 0;  // bytes
  std::vector<double> busy(n);
  for (std::size_t i = 0; i < n; ++i) {
    all += bytes[i];
    busy[i] = network.busy(0, 0, bytes[i]);
  }
  if (fast) {
    double spent = 0;
    for (const double each : busy) spent += each;
    for (std::size_t i = 0; i < n; ++i)
      network.free[ranks[i]] = at[i] + (spent - busy[i]) + (asked.whole ? 0 : static_cast<double>(n - 1) * busy[i]);
  } else {
    for (std::size_t i = 0; i < n; ++i) {
      double spent = 0;
      for (std::size_t to = 0; to < n; ++to) {
        if (to == i) continue;
        spent += network.busy(ranks[i], ranks[to], bytes[to]);
        if (!asked.whole) spent += network.busy(ranks[i], ranks[to], bytes[i]);
      }
      network.free[ranks[i]] = at[i] + spent;
    }
  }
  const double latency = network.latency(0, 0) + network.prices.lag_of(bytes[0], n - 1);  // chunks differ by one value
  at = fast ? detail::scatter(at, busy, latency) : detail::hop_by_hop(network, ranks, at, bytes, true, asked.at_once);
  for (std::size_t i = 0; i < n; ++i) at[i] += network.prices.received(n - 1, static_cast<double>(n - 1) * bytes[i]);
  if (asked.whole) return at;
  at = fast ? detail::gather(at, busy, latency) : detail::hop_by_hop(network, ranks, at, bytes, false, asked.at_once);
  for (std::size_t i = 0; i < n; ++i) at[i] += network.prices.received(n - 1, all - bytes[i]);
  return at;
}

}  // namespace loosestep::simulated
