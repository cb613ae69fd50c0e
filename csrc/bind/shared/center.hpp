// The binding of Center: one class for both dtypes.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "bind/python/arrays.hpp"
#include "bind/python/gil.hpp"
#include "bind/shared/push_rule.hpp"
#include "shared/center.hpp"

namespace loosestep::bind {

class Center {
 public:
  Center(const py::object& initial, std::size_t chunk) {
    if (chunk == 0 || chunk % 64 != 0)
      refuse("chunk", "a positive multiple of 64 bytes, got " + std::to_string(chunk));
    const Array array = readable_array(initial, "initial");
    dtype_ = array.dtype, size_ = array.size, chunk_ = chunk;
    if (dtype_ == Dtype::float32)
      core_ = make<float>(array, chunk);
    else
      core_ = make<double>(array, chunk);
  }

  std::size_t size() const { return size_; }
  const char* dtype() const { return name_of(dtype_); }

  std::uint64_t version() const {
    return std::visit([](const auto& core) { return core->version(); }, core_);
  }

  std::uint64_t elastic(const py::object& x, double rate, int rank) {
    if (!std::isfinite(rate)) refuse("rate", "finite, got " + std::to_string(rate));
    return call(check_fit(writable_array(x, "x"), "x"), rank, [rate, rank](auto& core, auto* data) {
      return PushRule::elastic(view(core), data, rate, rank);
    });
  }

  // Update this center and `others` by a rule, whose buffers are this one, the others and `values`.
  std::uint64_t push(const std::string& rule, const py::sequence& others, const py::sequence& values,
                     const std::vector<double>& scalars, int rank) {
    const py::tuple held_others(others), held_values(values);  // another thread may change a list
    const auto centers = pointers<Center>(held_others, "a Center");
    PushRule push(rule, 1 + centers.size(), scalars);
    push.take_all(held_values, dtype_, size_);
    check_others(centers);
    if (rank < 0) refuse("rank", "at least 0, got " + std::to_string(rank));
    const bool small = size_ * shared::bytes_of(dtype_) <= worth_releasing;
    if (dtype_ == Dtype::float32) return push_as<float>(push, centers, rank, small);
    return push_as<double>(push, centers, rank, small);
  }

  std::uint64_t fetch(const py::object& out, int rank) {
    return call(check_fit(writable_array(out, "out"), "out"), rank,
                [rank](auto& core, auto* data) { return core.fetch(data, rank); });
  }

  void store(const py::object& values, std::uint64_t version) {
    call(check_fit(readable_array(values, "values"), "values"), 0,
         [version](auto& core, auto* data) { return core.store(data, version), 0; });
  }

 private:
  template <class T> using Core = std::unique_ptr<shared::Center<T>>;
  template <class T> using View = shared::CenterView<T, shared::SpinLock>;

  template <class T> static View<T>& view(View<T>& center) { return center; }

  // Less work does not pay for releasing the GIL. Holding it cannot deadlock: a thread releases a chunk
  // without the GIL.
  static constexpr std::size_t worth_releasing = 16 * 1024;

  template <class T> static Core<T> make(const Array& array, std::size_t chunk) {
    return std::make_unique<shared::Center<T>>(static_cast<const T*>(array.data), array.size,
                                               chunk / sizeof(T));
  }

  Array check_fit(const Array& array, const char* argument) const {
    require_dtype(array, argument, dtype_, "the center");
    require_size(array, argument, size_, "as the center");
    return array;
  }

  void check_others(const std::vector<Center*>& others) const {
    for (std::size_t i = 0; i < others.size(); ++i) {
      const std::string name = "others[" + std::to_string(i) + "]";
      if (!others[i]) refuse(name.c_str(), "a Center, got None");
      require_dtype({nullptr, others[i]->size_, others[i]->dtype_}, name.c_str(), dtype_, "the first");
      require_size({nullptr, others[i]->size_, dtype_}, name.c_str(), size_, "as the first");
      const bool again = std::find(others.begin(), others.begin() + static_cast<std::ptrdiff_t>(i),
                                   others[i]) != others.begin() + static_cast<std::ptrdiff_t>(i);
      if (others[i] == this || again) refuse(name.c_str(), "another center than those before it");
      if (others[i]->chunk_ != chunk_) refuse(name.c_str(), "of the same chunk as the first");
    }
  }

  template <class T>
  std::uint64_t push_as(PushRule& push, const std::vector<Center*>& others, int rank, bool small) {
    std::vector<View<T>*> centers{std::get<Core<T>>(core_).get()};
    for (Center* const other : others) centers.push_back(std::get<Core<T>>(other->core_).get());
    if (small) return push.run(centers, rank);
    const bind::ReleaseGil release;
    return push.run(centers, rank);
  }

  template <class Work> std::uint64_t call(const Array& array, int rank, Work work) {
    if (rank < 0) refuse("rank", "at least 0, got " + std::to_string(rank));
    if (array.bytes() <= worth_releasing) return dispatch(array, work);
    const bind::ReleaseGil release;
    return dispatch(array, work);
  }

  template <class Work> std::uint64_t dispatch(const Array& array, Work& work) {
    if (dtype_ == Dtype::float32) return work(*std::get<Core<float>>(core_), static_cast<float*>(array.data));
    return work(*std::get<Core<double>>(core_), static_cast<double*>(array.data));
  }

  Dtype dtype_;
  std::size_t size_, chunk_;
  std::variant<Core<float>, Core<double>> core_;
};

}  // namespace loosestep::bind
