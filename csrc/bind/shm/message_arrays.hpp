// The arrays of one exchange: read in place, held until it is done, whatever their element type.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "bind/python/arrays.hpp"
#include "shm/messages/messages.hpp"

namespace loosestep::bind {

// What the run calls the ranks of a host, in the order of their places on it.
class RankNames {
 public:
  explicit RankNames(std::vector<int> ranks) : ranks_(std::move(ranks)) {
    for (std::size_t place = 0; place < ranks_.size(); ++place) {
      const int rank = ranks_[place];
      if (rank < 0) refuse("ranks", "at least 0, got " + std::to_string(rank));
      if (places_.size() <= static_cast<std::size_t>(rank))
        places_.resize(static_cast<std::size_t>(rank) + 1, -1);
      if (places_[static_cast<std::size_t>(rank)] >= 0) refuse("ranks", "all different");
      places_[static_cast<std::size_t>(rank)] = static_cast<int>(place);
    }
  }

  const std::vector<int>& all() const { return ranks_; }
  int size() const { return static_cast<int>(ranks_.size()); }

  int place(long rank, const char* argument) const {
    const auto at = static_cast<std::size_t>(rank);
    if (rank >= 0 && at < places_.size() && places_[at] >= 0) return places_[at];
    refuse(argument, "ranks of this host, got " + std::to_string(rank));
  }

 private:
  std::vector<int> ranks_, places_;
};

// An operation with all that it refers to.
struct HeldOperation {
  shm::Operation operation;
  bool reported = false;
  std::vector<shm::Transfer> sends, receives;
  std::vector<py::object> arrays;
  std::vector<std::pair<py::object, py::object>>
      strided;  // (where it belongs, a contiguous one that it comes to)
  py::object notes;

  // Hand over what has come, and forget the arrays.
  void finish() {
    for (const auto& [into, from] : strided) into[py::ellipsis()] = from;
    if (operation.notes)
      for (const auto& [source, note] : *operation.notes) notes[py::int_(source)] = py::float_(note);
    operation = {}, reported = false, notes = {};
    sends.clear(), receives.clear(), arrays.clear(), strided.clear();
  }

  // Read (rank, array) pairs.
  void read(py::handle pairs, const char* argument, bool written, const RankNames& names) {
    const auto all = py::reinterpret_steal<py::object>(PySequence_Fast(pairs.ptr(), argument));
    if (!all) throw py::error_already_set();
    for (Py_ssize_t k = 0; k < PySequence_Fast_GET_SIZE(all.ptr()); ++k) {
      PyObject* const pair = PySequence_Fast_GET_ITEM(all.ptr(), k);
      if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
        refuse(argument, "pairs of a rank and an array");
      const long rank = PyLong_AsLong(PyTuple_GET_ITEM(pair, 0));
      if (rank == -1 && PyErr_Occurred()) throw py::error_already_set();
      const shm::Span content = read_array(PyTuple_GET_ITEM(pair, 1), argument, written);
      (written ? receives : sends).push_back({names.place(rank, argument), content});
    }
  }

  shm::Span read_array(PyObject* given, const char* argument, bool written) {
    if (!py::isinstance<py::array>(given))
      throw py::type_error(std::string(argument) + " must hold numpy arrays, got " + type_name(given));
    auto array = py::reinterpret_borrow<py::array>(given);
    if (written && !array.writeable()) refuse(argument, "writable arrays, got a read-only one");
    if (!(array.flags() & py::array::c_style)) {
      const py::array whole = py::array::ensure(array, py::array::c_style);
      if (!whole) throw py::error_already_set();
      if (written) strided.emplace_back(array, whole);
      array = whole;
    }
    arrays.push_back(array);
    const auto size = static_cast<std::size_t>(array.size());
    return {static_cast<std::byte*>(const_cast<void*>(array.data())),
            size * static_cast<std::size_t>(array.itemsize()), size,
            static_cast<std::uint8_t>(array.dtype().num())};
  }
};

}  // namespace loosestep::bind
