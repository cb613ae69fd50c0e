// The binding of HostCenter: one class for both dtypes.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <deque>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "bind/python/gil.hpp"
#include "bind/shared/collective_args.hpp"
#include "bind/shared/push_rule.hpp"
#include "bind/shm/owned.hpp"
#include "shm/center.hpp"

namespace loosestep::bind {

class HostCenter {
 public:
  HostCenter(const py::object& path, std::size_t size, const std::string& dtype, bool create,
             const py::object& initial)
      : dtype_(dtype_named(dtype)), size_(size), open_(opened(path, create, initial)) {}

  static std::size_t needed(std::size_t size, const std::string& dtype) {
    return dtype_named(dtype) == Dtype::float32 ? shm::Center<float>::bytes(size)
                                                : shm::Center<double>::bytes(size);
  }

  std::size_t size() const { return size_; }
  const char* dtype() const { return name_of(dtype_); }

  std::uint64_t version() const {
    const auto open = this->open();
    return std::visit([](const auto& core) { return core.version(); }, open->core);
  }

  std::uint64_t elastic(const py::object& x, double rate, int rank, double seconds) {
    if (!std::isfinite(rate)) refuse("rate", "finite, got " + std::to_string(rate));
    return call(writable_array(x, "x"), "x", rank, seconds,
                [rate, rank](auto& core, auto* data, auto deadline) {
                  return PushRule::elastic(view(core), data, rate, rank, deadline);
                });
  }

  // Update this center and `others` by a rule, whose buffers are this one, the others and `values`.
  std::uint64_t push(const std::string& rule, const py::sequence& others, const py::sequence& values,
                     const std::vector<double>& scalars, int rank, double seconds) {
    const py::tuple held_others(others), held_values(values);  // another thread may change a list
    const auto centers = pointers<HostCenter>(held_others, "a HostCenter");
    PushRule push(rule, 1 + centers.size(), scalars);
    push.take_all(held_values, dtype_, size_);
    if (rank < 0) refuse("rank", "at least 0, got " + std::to_string(rank));
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    if (dtype_ == Dtype::float32) return push_as<float>(push, centers, rank, deadline);
    return push_as<double>(push, centers, rank, deadline);
  }

  std::uint64_t fetch(const py::object& out, int rank, double seconds) {
    return call(writable_array(out, "out"), "out", rank, seconds,
                [rank](auto& core, auto* data, auto deadline) { return core.fetch(data, rank, deadline); });
  }

  void store(const py::object& values, std::uint64_t version, double seconds) {
    call(readable_array(values, "values"), "values", 0, seconds,
         [version](auto& core, auto* data, auto deadline) { return core.store(data, version, deadline), 0; });
  }

  void close() {
    if (const auto open = open_.usable(); open && open->calls > 0)
      throw std::runtime_error("this HostCenter is in use by another thread");
    open_.close();
  }

 private:
  using Core = std::variant<shm::Center<float>, shm::Center<double>>;
  template <class T> using View = shared::CenterView<T, shm::RobustLock>;

  template <class T> static View<T>& view(View<T>& center) { return center; }

  struct Open {
    Open(shm::Mapping memory, Core center) : mapping(std::move(memory)), core(std::move(center)) {}
    shm::Mapping mapping;
    Core core;
    std::atomic<int> calls{0};  // in flight
  };

  class InFlight {
   public:
    explicit InFlight(Open& open) : open_(open) { ++open_.calls; }
    ~InFlight() { --open_.calls; }
    InFlight(const InFlight&) = delete;
    InFlight& operator=(const InFlight&) = delete;

   private:
    Open& open_;
  };

  std::shared_ptr<Open> open() const { return open_.get("this HostCenter"); }

  std::shared_ptr<Open> opened(const py::object& path, bool create, const py::object& initial) const {
    if (!create && !initial.is_none()) refuse("initial", "None unless create is True");
    const void* const values =
        initial.is_none() ? nullptr : check_fit(readable_array(initial, "initial"), "initial").data;
    shm::Mapping mapping = map_memory(path, needed(size_, dtype()), create);
    std::byte* const memory = mapping.memory();
    if (dtype_ == Dtype::float32) return opened<float>(std::move(mapping), memory, create, values);
    return opened<double>(std::move(mapping), memory, create, values);
  }

  template <class T>
  std::shared_ptr<Open> opened(shm::Mapping mapping, std::byte* memory, bool create,
                               const void* values) const {
    Core core = create ? shm::Center<T>::create(memory, size_, static_cast<const T*>(values))
                       : shm::Center<T>::attach(memory, size_);
    return std::make_shared<Open>(std::move(mapping), std::move(core));
  }

  Array check_fit(const Array& array, const char* argument) const {
    require_dtype(array, argument, dtype_, "the center");
    require_size(array, argument, size_, "as the center");
    return array;
  }

  const HostCenter& check_like(const HostCenter* other, std::size_t i) const {
    const std::string name = "others[" + std::to_string(i) + "]";
    if (!other) refuse(name.c_str(), "a HostCenter, got None");
    require_dtype({nullptr, other->size_, other->dtype_}, name.c_str(), dtype_, "the first");
    require_size({nullptr, other->size_, dtype_}, name.c_str(), size_, "as the first");
    return *other;
  }

  template <class T>
  std::uint64_t push_as(PushRule& push, const std::vector<HostCenter*>& others, int rank,
                        shared::Clock::time_point deadline) {
    std::vector<std::shared_ptr<Open>> opens{open()};
    for (std::size_t i = 0; i < others.size(); ++i) opens.push_back(check_like(others[i], i).open());
    std::vector<View<T>*> centers;
    std::deque<InFlight> in_flight;
    for (const std::shared_ptr<Open>& each : opens) {
      View<T>* const center = &std::get<shm::Center<T>>(each->core);
      const auto same = [center](const View<T>* other) { return center->same_as(*other); };
      if (std::any_of(centers.begin(), centers.end(), same))
        refuse("others", "other centers than this one, each once");
      centers.push_back(center);
      in_flight.emplace_back(*each);
    }
    const bind::ReleaseGil release;
    return push.run(centers, rank, deadline);
  }

  template <class Work>
  std::uint64_t call(const Array& array, const char* argument, int rank, double seconds, Work work) {
    if (rank < 0) refuse("rank", "at least 0, got " + std::to_string(rank));
    check_fit(array, argument);
    const auto open = this->open();
    const auto deadline = shared::deadline_after(checked_seconds(seconds));
    const InFlight in_flight(*open);
    const bind::ReleaseGil release;
    if (dtype_ == Dtype::float32)
      return work(std::get<shm::Center<float>>(open->core), static_cast<float*>(array.data), deadline);
    return work(std::get<shm::Center<double>>(open->core), static_cast<double*>(array.data), deadline);
  }

  Dtype dtype_;
  std::size_t size_;
  ProcessOwned<Open> open_;
};

}  // namespace loosestep::bind
