// Center as Python sees it: one class for both dtypes. Checks, releases the GIL, calls.
#pragma once

#include <pybind11/pybind11.h>

#include <cmath>
#include <memory>
#include <string>
#include <variant>

#include "bind/arrays.hpp"
#include "shared/center.hpp"

namespace loosestep::bind {

class Center {
 public:
  Center(const py::object& initial, std::size_t chunk) {
    if (chunk == 0 || chunk % 64 != 0) refuse("chunk", "a positive multiple of 64 bytes, got " + std::to_string(chunk));
    const Array array = readable(initial, "initial");
    dtype_ = array.dtype, size_ = array.size;
    if (dtype_ == Dtype::float32) core_ = make<float>(array, chunk);
    else core_ = make<double>(array, chunk);
  }

  std::size_t size() const { return size_; }
  const char* dtype() const { return name_of(dtype_); }

  std::uint64_t version() const {
    return std::visit([](const auto& core) { return core->version(); }, core_);
  }

  std::uint64_t elastic(const py::object& x, double rate, int rank) {
    if (!std::isfinite(rate)) refuse("rate", "finite, got " + std::to_string(rate));
    return call(fitting(writable(x, "x"), "x"), rank, [rate, rank](auto& core, auto* data) {
      return core.elastic(data, static_cast<std::remove_reference_t<decltype(*data)>>(rate), rank);
    });
  }

  std::uint64_t fetch(const py::object& out, int rank) {
    return call(fitting(writable(out, "out"), "out"), rank,
                [rank](auto& core, auto* data) { return core.fetch(data, rank); });
  }

  std::uint64_t add(const py::object& delta, int rank) {
    return call(fitting(readable(delta, "delta"), "delta"), rank,
                [rank](auto& core, auto* data) { return core.add(data, rank); });
  }

  void store(const py::object& values) {
    call(fitting(readable(values, "values"), "values"), 0, [](auto& core, auto* data) { return core.store(data), 0; });
  }

 private:
  template <class T>
  using Core = std::unique_ptr<shared::Center<T>>;

  // Below this the work is shorter than a hand-over of the GIL. Holding it cannot deadlock: the holder of a chunk's
  // lock needs no GIL to release it.
  static constexpr std::size_t worth_releasing = 16 * 1024;

  template <class T>
  static Core<T> make(const Array& array, std::size_t chunk) {
    return std::make_unique<shared::Center<T>>(static_cast<const T*>(array.data), array.size, chunk / sizeof(T));
  }

  Array fitting(const Array& array, const char* argument) const {
    require_dtype(array, argument, dtype_, "the center");
    require_size(array, argument, size_, "as the center");
    return array;
  }

  template <class Work>
  std::uint64_t call(const Array& array, int rank, Work work) {
    if (rank < 0) refuse("rank", "at least 0, got " + std::to_string(rank));
    if (array.bytes() <= worth_releasing) return dispatch(array, work);
    const py::gil_scoped_release release;
    return dispatch(array, work);
  }

  template <class Work>
  std::uint64_t dispatch(const Array& array, Work& work) {
    if (dtype_ == Dtype::float32) return work(*std::get<Core<float>>(core_), static_cast<float*>(array.data));
    return work(*std::get<Core<double>>(core_), static_cast<double*>(array.data));
  }

  Dtype dtype_;
  std::size_t size_;
  std::variant<Core<float>, Core<double>> core_;
};

}  // namespace loosestep::bind
