// Reads sparse rows, without converting them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <string>

#include "bind/python/gil.hpp"
#include "models/linear/prepare.hpp"

namespace loosestep::bind {

namespace py = pybind11;
using models::InvalidRow;
using models::PreparedRows;
using models::Source;

template <class T> const T* data_of(const py::object& given, const char* name, std::size_t size) {
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(given))
    throw py::type_error(std::string(name) + " must be a C-contiguous array of " +
                         std::string(py::str(py::dtype::of<T>())) + ", got " +
                         std::string(py::str(py::type::of(given))));
  const auto array = py::reinterpret_borrow<py::array>(given);
  if (std::size_t(array.size()) != size)
    throw py::value_error(std::string(name) + " must have " + std::to_string(size) + " elements, got " +
                          std::to_string(array.size()));
  return static_cast<const T*>(array.data());
}

template <class T> T* written(const py::object& given, const char* name, std::size_t size) {
  const T* data = data_of<T>(given, name, size);
  if (!py::reinterpret_borrow<py::array>(given).writeable())
    throw py::value_error(std::string(name) + " must be writable, got a read-only array");
  return const_cast<T*>(data);
}

inline int at_least_one_thread(int threads) {
  if (threads < 1) throw py::value_error("threads must be at least 1, got " + std::to_string(threads));
  return threads;
}

inline void check_starts(const Source& source, std::size_t entries) {
  if (source.starts[0] != 0 || source.starts[source.count] != std::int64_t(entries) ||
      !std::is_sorted(source.starts, source.starts + source.count + 1))
    throw py::value_error("starts must grow from 0 to the number of entries, " + std::to_string(entries));
}

inline Source source_of(const py::array& starts, const py::array& columns, const py::array& values,
                        std::size_t features) {
  Source source;
  if (starts.size() < 1)
    throw py::value_error("starts must have one element more than there are rows, got none");
  source.count = std::size_t(starts.size()) - 1, source.features = features;
  if (source.count >> 32 || features >> 32) throw py::value_error("more than 2^32 rows or features");
  source.starts = data_of<std::int64_t>(starts, "starts", source.count + 1);
  const std::size_t entries = source.entries = std::size_t(values.size());
  source.wide_columns = columns.itemsize() == 8, source.wide_values = values.itemsize() == 8;
  source.columns = source.wide_columns
                       ? static_cast<const void*>(data_of<std::int64_t>(columns, "columns", entries))
                       : data_of<std::int32_t>(columns, "columns", entries);
  source.values = source.wide_values ? static_cast<const void*>(data_of<double>(values, "values", entries))
                                     : data_of<float>(values, "values", entries);
  check_starts(source, entries);
  return source;
}

inline py::array_t<std::uint32_t> count(const py::array& starts, const py::array& columns,
                                        const py::array& values, std::size_t features, int threads) {
  const Source source = source_of(starts, columns, values, features);
  py::array_t<std::uint32_t> counts(static_cast<py::ssize_t>(features));
  std::fill_n(counts.mutable_data(), features, 0u);
  InvalidRow invalid;
  {
    std::uint32_t* const into = counts.mutable_data();
    const bind::ReleaseGil release;
    invalid = count_features(source, at_least_one_thread(threads), into);
  }
  if (invalid.row >= 0) throw py::value_error("row " + std::to_string(invalid.row) + " " + invalid.what);
  return counts;
}

struct SparseRows {
  std::uint32_t places, head;
  std::size_t outputs;

  PreparedRows prepared;
};

inline void check_classes(const Source& source, std::size_t outputs) {
  const bool classes = std::all_of(source.targets, source.targets + source.count, [&](float y) {
    return y >= 0 && y < float(outputs) && y == float(int(y));
  });
  if (outputs < 1 || (outputs > 1 && !classes))
    throw py::value_error("targets must be numbers of classes below the number of outputs, " +
                          std::to_string(outputs));
}

inline std::unique_ptr<SparseRows> lay(const py::array& starts, const py::array& columns,
                                       const py::array& values, const py::object& places, std::uint32_t head,
                                       std::size_t outputs, const py::object& targets,
                                       const py::object& weights, int threads, std::uint64_t seed) {
  const std::size_t features = std::size_t(py::len(places));
  Source source = source_of(starts, columns, values, features);
  const std::uint32_t* where = data_of<std::uint32_t>(places, "places", features);
  if (std::any_of(where, where + features, [&](std::uint32_t p) { return p < 1 || p > features; }))
    throw py::value_error("places must be between 1 and the number of features");
  source.targets = data_of<float>(targets, "targets", source.count);
  check_classes(source, outputs);

  if (!weights.is_none()) source.weights = data_of<float>(weights, "weights", source.count);
  const bind::ReleaseGil release;
  return std::unique_ptr<SparseRows>(
      new SparseRows{std::uint32_t(features) + 1, head, outputs,
                     PreparedRows(source, where, head, outputs, at_least_one_thread(threads), seed)});
}

}  // namespace loosestep::bind
