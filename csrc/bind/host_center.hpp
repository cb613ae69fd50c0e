// HostCenter as Python sees it: one class for both dtypes. Checks, the mapping's life, the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <cmath>
#include <memory>
#include <string>
#include <variant>

#include "bind/posts.hpp"
#include "bind/sharing.hpp"
#include "host/center.hpp"

namespace loosestep::bind {

inline Dtype dtype_named(const std::string& name) {
  if (name == "float32") return Dtype::float32;
  if (name == "float64") return Dtype::float64;
  throw py::value_error("dtype must be 'float32' or 'float64', got '" + name + "'");
}

class HostCenter {
 public:
  HostCenter(const py::object& path, std::size_t size, const std::string& dtype, bool create,
             const py::object& initial)
      : dtype_(dtype_named(dtype)), size_(size), open_(opened(path, create, initial)) {}

  static std::size_t needed(std::size_t size, const std::string& dtype) {
    return dtype_named(dtype) == Dtype::float32 ? host::Center<float>::bytes(size)
                                                : host::Center<double>::bytes(size);
  }

  std::size_t size() const { return size_; }
  const char* dtype() const { return name_of(dtype_); }

  std::uint64_t version() const {
    return std::visit([](const auto& core) { return core.version(); }, open().core);
  }

  std::uint64_t elastic(const py::object& x, double rate, int rank, double seconds) {
    if (!std::isfinite(rate)) refuse("rate", "finite, got " + std::to_string(rate));
    return call(writable(x, "x"), "x", rank, seconds, [rate, rank](auto& core, auto* data, auto until) {
      return core.elastic(data, static_cast<std::remove_reference_t<decltype(*data)>>(rate), rank, until);
    });
  }

  std::uint64_t fetch(const py::object& out, int rank, double seconds) {
    return call(writable(out, "out"), "out", rank, seconds,
                [rank](auto& core, auto* data, auto until) { return core.fetch(data, rank, until); });
  }

  std::uint64_t add(const py::object& delta, int rank, double seconds) {
    return call(readable(delta, "delta"), "delta", rank, seconds,
                [rank](auto& core, auto* data, auto until) { return core.add(data, rank, until); });
  }

  void store(const py::object& values, double seconds) {
    call(readable(values, "values"), "values", 0, seconds,
         [](auto& core, auto* data, auto until) { return core.store(data, until), 0; });
  }

  void close() {
    if (open_.usable() && open().calls > 0)
      throw std::runtime_error("this HostCenter is in use by another thread");
    open_.close();
  }

 private:
  using Core = std::variant<host::Center<float>, host::Center<double>>;

  struct Open {
    host::Mapping mapping;
    Core core;
    int calls = 0;  // under way; changed with the GIL held
  };

  class Call {
   public:
    explicit Call(Open& open) : open_(open) { ++open_.calls; }
    ~Call() { --open_.calls; }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Open& open_;
  };

  Open& open() const { return open_.get("this HostCenter"); }

  std::unique_ptr<Open> opened(const py::object& path, bool create, const py::object& initial) const {
    if (!create && !initial.is_none()) refuse("initial", "None unless create is True");
    const void* const values =
        initial.is_none() ? nullptr : fitting(readable(initial, "initial"), "initial").data;
    host::Mapping mapping = mapped(path, needed(size_, dtype()), create);
    std::byte* const memory = mapping.memory();
    if (dtype_ == Dtype::float32) return opened<float>(std::move(mapping), memory, create, values);
    return opened<double>(std::move(mapping), memory, create, values);
  }

  template <class T>
  std::unique_ptr<Open> opened(host::Mapping mapping, std::byte* memory, bool create,
                               const void* values) const {
    Core core = create ? host::Center<T>::made(memory, size_, static_cast<const T*>(values))
                       : host::Center<T>::found(memory, size_);
    return std::make_unique<Open>(Open{std::move(mapping), std::move(core)});
  }

  Array fitting(const Array& array, const char* argument) const {
    require_dtype(array, argument, dtype_, "the center");
    require_size(array, argument, size_, "as the center");
    return array;
  }

  template <class Work>
  std::uint64_t call(const Array& array, const char* argument, int rank, double seconds, Work work) {
    if (rank < 0) refuse("rank", "at least 0, got " + std::to_string(rank));
    fitting(array, argument);
    Open& open = this->open();
    const auto until = shared::deadline_after(checked_seconds(seconds));
    const Call under_way(open);
    const py::gil_scoped_release release;
    if (dtype_ == Dtype::float32)
      return work(std::get<host::Center<float>>(open.core), static_cast<float*>(array.data), until);
    return work(std::get<host::Center<double>>(open.core), static_cast<double*>(array.data), until);
  }

  Dtype dtype_;
  std::size_t size_;
  Owned<Open> open_;
};

}  // namespace loosestep::bind
