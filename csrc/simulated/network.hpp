// What messages cost in virtual time, in seconds and bytes a second.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace loosestep::simulated {

// Numbers by two indices, such as sender and receiver; the steps are 0 where all are alike.
struct Table {
  const double* first;
  std::ptrdiff_t row, column;

  double operator()(std::size_t i, std::size_t j) const {
    return first[static_cast<std::ptrdiff_t>(i) * row + static_cast<std::ptrdiff_t>(j) * column];
  }

  bool uniform() const { return !row && !column; }
};

// When a message has left its sender, and when all of it is there.
struct Sent {
  double left, arrived;
};

// What a message costs besides latency and bandwidth: nothing, unless it is said.
struct Prices {
  double header = 0;  // bytes of a message besides its content
  double send = 0, receive = 0;  // seconds of the sender's and of the receiver's processor
  double copy = 0;  // seconds a byte, at the receiver
  double turn = 0;  // seconds until a worker that computes goes on with what was started, or serves others
  double contention = 0;  // share by which a step is longer that begins while a started communication goes on
  double inbound = std::numeric_limits<double>::infinity();  // bytes a second that come to a link
  // Pairs (bytes, seconds beyond latency + bytes / bandwidth) by bytes: first of messages that are sent alone, then of
  // those sent 2, 3, ... together; the last table also holds for more.
  std::vector<std::vector<std::pair<double, double>>> lag;
  std::vector<std::uint32_t> host_of;  // by worker; those of a host share its link to others; empty: own links

  // Linear between the sizes that are known, and as at the first and the last beyond them.
  double lag_of(double bytes, std::size_t together) const {
    if (lag.empty()) return 0.0;
    const auto& known = lag[std::min(std::max<std::size_t>(together, 1), lag.size()) - 1];
    if (known.empty()) return 0.0;
    const auto after = std::lower_bound(known.begin(), known.end(), bytes,
                                        [](const auto& pair, double size) { return pair.first < size; });
    if (after == known.begin()) return after->second;
    const auto before = after - 1;
    if (after == known.end()) return before->second;
    const double part = (bytes - before->first) / (after->first - before->first);
    return before->second + part * (after->second - before->second);
  }

  // What so many messages cost their receiver when they are there.
  double received(std::size_t messages, double bytes) const {
    return static_cast<double>(messages) * receive + bytes * copy;
  }
};

// What comes to a link now: those that come together share it.
class Inbound {
 public:
  // Return when so many bytes are there, the first of which come from `begin` on, and which have left at `left`.
  double take(double begin, double left, double bytes, double bandwidth) {
    std::erase_if(coming, [&](const auto& each) { return each.second <= begin; });
    double before = bytes;
    for (const auto& [size, end] : coming) before += std::min({size, (end - begin) * bandwidth, bytes});
    const double there = std::max(left, begin + before / bandwidth);
    coming.emplace_back(bytes, there);
    return there;
  }

 private:
  std::vector<std::pair<double, double>> coming;  // (bytes, when they are there)
};

// A worker sends one message at a time, and what comes to it is limited by `Prices::inbound`; the center's link is
// finite both ways.
class Network {
 public:
  Network(Table latency, Table bandwidth, std::vector<double> to_center,
          std::vector<double> worker_bandwidth, double center_bandwidth, Prices prices = {})
      : free(to_center.size()), injected(free.size()), to_center(std::move(to_center)), latency(latency), bandwidth(bandwidth),
        prices(std::move(prices)), worker_bandwidth(std::move(worker_bandwidth)),
        center_bandwidth(center_bandwidth), delivered(free.size()),
        links(this->prices.host_of.empty() ? 0 : *std::max_element(this->prices.host_of.begin(), this->prices.host_of.end()) + 1),
        coming(links.empty() ? free.size() : links.size()) {}

  // Send one of so many messages that go together. Within a host only latency and bandwidth count.
  Sent send(std::size_t from, std::size_t to, double bytes, double now, std::size_t together = 1) {
    const std::vector<std::uint32_t>& host_of = prices.host_of;
    if (!host_of.empty() && host_of[from] == host_of[to]) {
      free[from] = std::max(free[from], now) + bytes / bandwidth(from, to);
      return {free[from], free[from] + latency(from, to)};
    }
    double& link = host_of.empty() ? free[from] : links[host_of[from]];
    injected[from] = std::max(injected[from], now) + prices.send;
    const double begin = std::max(std::max(free[from], link), injected[from]);
    const double left = link = free[from] = begin + (bytes + prices.header) / bandwidth(from, to);
    double arrived = std::max(left, left + latency(from, to) + prices.lag_of(bytes, together));
    if (prices.inbound < std::numeric_limits<double>::infinity())
      arrived = coming[host_of.empty() ? to : host_of[to]].take(begin + latency(from, to), arrived,
                                                                bytes + prices.header, prices.inbound);
    return {left, arrived};
  }

  // Return the seconds for which a message keeps its link, or its sender.
  double busy(std::size_t from, std::size_t to, double bytes) const {
    return std::max((bytes + prices.header) / bandwidth(from, to), prices.send);
  }

  // Send to the center, whose link takes one message after the other.
  Sent push(std::size_t from, double bytes, double now) {
    const double begin = std::max(now, free[from]);
    const double left = free[from] = begin + bytes / worker_bandwidth[from];
    const double whole = std::max(center_in, begin + to_center[from]) + bytes / center_bandwidth;
    center_in = delivered[from] = std::max(whole, left + to_center[from]);
    return {left, center_in};
  }

  // Return when a worker's request is at the center: not before what it has pushed.
  double asked(std::size_t from, double now) const { return std::max(now + to_center[from], delivered[from]); }

  // Answer a request that is at the center now; return when it reads the value, and when all of it has left.
  std::pair<double, double> pull(double bytes, double now) {
    const double begin = std::max(now, center_out);
    center_out = begin + bytes / center_bandwidth;
    return {begin, center_out};
  }

  std::vector<double> free;  // by worker: when it can send the next message
  std::vector<double> injected;  // by worker: when its processor has handed over what it sent
  const std::vector<double> to_center;  // latency
  const Table latency, bandwidth;
  const Prices prices;
  double center_in = 0;  // when what was pushed so far is all at the center

 private:
  std::vector<double> worker_bandwidth;
  double center_bandwidth;
  std::vector<double> delivered;  // when what a worker pushed last is at the center
  double center_out = 0;
  std::vector<double> links;  // by host: when its link to others can send the next message
  std::vector<Inbound> coming;  // by host, or by worker
};

}  // namespace loosestep::simulated
