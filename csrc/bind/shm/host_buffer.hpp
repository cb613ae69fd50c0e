// The binding of HostBuffer: an array in memory that the processes of a host map, and after close() in
// private memory.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <string>

#include "bind/python/gil.hpp"
#include "bind/shm/host_center.hpp"
#include "cpu/kernels.hpp"

namespace loosestep::bind {

class HostBuffer {
 public:
  HostBuffer(const py::object& path, std::size_t size, const std::string& dtype, bool create)
      : size_(size),
        dtype_(dtype_named(dtype)),
        held_(std::make_shared<Held>(map_memory(path, needed(size, dtype), create))) {}

  static std::size_t needed(std::size_t size, const std::string& dtype) {
    const std::size_t least = 1;  // a mapping cannot be empty
    return std::max(size, least) * shared::bytes_of(dtype_named(dtype));
  }

  // Return a view, which keeps the mapping alive.
  py::array array() const {
    const py::capsule owner(new std::shared_ptr<Held>(held_),
                            [](void* held) { delete static_cast<std::shared_ptr<Held>*>(held); });
    return py::array(py::dtype(name_of(dtype_)), {size_}, {shared::bytes_of(dtype_)}, held_->mapping.memory(),
                     owner);
  }

  void close() {
    if (held_->forked()) return;
    const bind::ReleaseGil release;
    const std::lock_guard lock(held_->closing);
    if (!held_->common) return;
    shm::Mapping own = shm::Mapping::anonymous(size_ * shared::bytes_of(dtype_));
    void* const buffers[] = {held_->mapping.memory(), own.memory()};
    // Atomic loads: others may still write.
    load[static_cast<int>(dtype_)](nullptr, buffers, 0, size_, false);
    held_->mapping.replace_with(std::move(own));
    held_->common = false;
  }

 private:
  struct Held {
    explicit Held(shm::Mapping memory) : mapping(std::move(memory)) {}
    ~Held() {
      if (forked()) mapping.forget();
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    bool forked() const { return ::getpid() != pid; }

    shm::Mapping mapping;
    pid_t pid = ::getpid();
    std::mutex closing;
    bool common = true;  // under closing
  };

  std::size_t size_;
  Dtype dtype_;
  std::shared_ptr<Held> held_;
};

}  // namespace loosestep::bind
