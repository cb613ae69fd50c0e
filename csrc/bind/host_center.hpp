// HostCenter as Python sees it: one class for both dtypes. Checks, the mapping's life, the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "bind/moves.hpp"
#include "bind/posts.hpp"
#include "bind/released.hpp"
#include "bind/sharing.hpp"
#include "host/center.hpp"

namespace loosestep::bind {

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
      return Move::elastic(over(core), data, rate, rank, until);
    });
  }

  // `others` are moved with this one: the rule's buffers are this, the others, and `values`.
  std::uint64_t push(const std::string& rule, const std::vector<HostCenter*>& others,
                     const py::sequence& values, const std::vector<double>& scalars, int rank,
                     double seconds) {
    Move move(rule, 1 + others.size(), scalars);
    move.take_all(values, dtype_, size_);
    if (rank < 0) refuse("rank", "at least 0, got " + std::to_string(rank));
    const auto until = shared::deadline_after(checked_seconds(seconds));
    if (dtype_ == Dtype::float32) return pushed<float>(move, others, rank, until);
    return pushed<double>(move, others, rank, until);
  }

  std::uint64_t fetch(const py::object& out, int rank, double seconds) {
    return call(writable(out, "out"), "out", rank, seconds,
                [rank](auto& core, auto* data, auto until) { return core.fetch(data, rank, until); });
  }

  void store(const py::object& values, std::uint64_t version, double seconds) {
    call(readable(values, "values"), "values", 0, seconds,
         [version](auto& core, auto* data, auto until) { return core.store(data, version, until), 0; });
  }

  void close() {
    if (open_.usable() && open().calls > 0)
      throw std::runtime_error("this HostCenter is in use by another thread");
    open_.close();
  }

 private:
  using Core = std::variant<host::Center<float>, host::Center<double>>;
  template <class T> using Over = shared::CenterOver<T, host::RobustLock>;

  template <class T> static Over<T>& over(Over<T>& center) { return center; }

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

  const HostCenter& alike(const HostCenter* other, std::size_t i) const {
    const std::string name = "others[" + std::to_string(i) + "]";
    if (!other) refuse(name.c_str(), "a HostCenter, got None");
    require_dtype({nullptr, other->size_, other->dtype_}, name.c_str(), dtype_, "the first");
    require_size({nullptr, other->size_, dtype_}, name.c_str(), size_, "as the first");
    return *other;
  }

  template <class T>
  std::uint64_t pushed(Move& move, const std::vector<HostCenter*>& others, int rank,
                       shared::Clock::time_point until) {
    std::vector<Open*> opens{&open()};
    for (std::size_t i = 0; i < others.size(); ++i) opens.push_back(&alike(others[i], i).open());
    std::vector<Over<T>*> centers;
    std::deque<Call> under_way;
    for (Open* const each : opens) {
      Over<T>* const center = &std::get<host::Center<T>>(each->core);
      const auto same = [center](const Over<T>* other) { return center->is(*other); };
      if (std::any_of(centers.begin(), centers.end(), same))
        refuse("others", "other centers than this one, each once");
      centers.push_back(center);
      under_way.emplace_back(*each);
    }
    const bind::Released release;
    return move.run(centers, rank, until);
  }

  template <class Work>
  std::uint64_t call(const Array& array, const char* argument, int rank, double seconds, Work work) {
    if (rank < 0) refuse("rank", "at least 0, got " + std::to_string(rank));
    fitting(array, argument);
    Open& open = this->open();
    const auto until = shared::deadline_after(checked_seconds(seconds));
    const Call under_way(open);
    const bind::Released release;
    if (dtype_ == Dtype::float32)
      return work(std::get<host::Center<float>>(open.core), static_cast<float*>(array.data), until);
    return work(std::get<host::Center<double>>(open.core), static_cast<double*>(array.data), until);
  }

  Dtype dtype_;
  std::size_t size_;
  Owned<Open> open_;
};

}  // namespace loosestep::bind
