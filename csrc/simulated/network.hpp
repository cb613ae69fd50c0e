// What messages cost in virtual time, in seconds and bytes a second.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
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

// A worker sends one message at a time, and receiving is not limited; the center's link is finite both ways.
class Network {
 public:
  Network(Table latency, Table bandwidth, std::vector<double> to_center,
          std::vector<double> worker_bandwidth, double center_bandwidth)
      : free(to_center.size()), to_center(std::move(to_center)), latency(latency), bandwidth(bandwidth),
        worker_bandwidth(std::move(worker_bandwidth)), center_bandwidth(center_bandwidth),
        delivered(free.size()) {}

  Sent send(std::size_t from, std::size_t to, double bytes, double now) {
    free[from] = std::max(free[from], now) + bytes / bandwidth(from, to);
    return {free[from], free[from] + latency(from, to)};
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
  const std::vector<double> to_center;  // latency
  const Table latency, bandwidth;
  double center_in = 0;  // when what was pushed so far is all at the center

 private:
  std::vector<double> worker_bandwidth;
  double center_bandwidth;
  std::vector<double> delivered;  // when what a worker pushed last is at the center
  double center_out = 0;
};

}  // namespace loosestep::simulated
