// The simulated network as Python sees it; its tables of links are Python's.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "simulated/network.hpp"

namespace loosestep::bind {

// Return a view of two dimensions, whose array must live as long.
inline simulated::Table table_of(const pybind11::array_t<double>& array, pybind11::ssize_t rows,
                                 pybind11::ssize_t columns) {
  if (array.ndim() != 2 || array.shape(0) != rows || array.shape(1) != columns)
    throw std::invalid_argument("a table must have " + std::to_string(rows) + " x " + std::to_string(columns) +
                                " numbers");
  const auto steps = [&](int axis) { return array.strides(axis) / static_cast<pybind11::ssize_t>(sizeof(double)); };
  return {array.data(), steps(0), steps(1)};
}

struct BoundNetwork {
  BoundNetwork(pybind11::array_t<double> latency_, pybind11::array_t<double> bandwidth_,
               std::vector<double> to_center, std::vector<double> worker_bandwidth, double center_bandwidth,
               simulated::Prices prices)
      : latency(std::move(latency_)), bandwidth(std::move(bandwidth_)),
        size(static_cast<pybind11::ssize_t>(to_center.size())),
        network(table_of(latency, size, size), table_of(bandwidth, size, size), std::move(to_center),
                std::move(worker_bandwidth), center_bandwidth, checked(std::move(prices), size)) {}

  static simulated::Prices checked(simulated::Prices prices, pybind11::ssize_t size) {
    if (!prices.host_of.empty() && static_cast<pybind11::ssize_t>(prices.host_of.size()) != size)
      throw std::invalid_argument("host_of must have a number for each worker");
    for (const auto& known : prices.lag)
      if (!std::is_sorted(known.begin(), known.end())) throw std::invalid_argument("lag must be sorted by bytes");
    return prices;
  }

  void require(std::size_t rank) const {
    if (rank >= static_cast<std::size_t>(size))
      throw pybind11::index_error("there is no worker " + std::to_string(static_cast<std::int64_t>(rank)));
  }

  pybind11::array_t<double> latency, bandwidth;
  pybind11::ssize_t size;
  simulated::Network network;
};

}  // namespace loosestep::bind
