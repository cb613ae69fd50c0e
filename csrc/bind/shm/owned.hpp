// How Python objects hold shared memory.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "shm/mapping.hpp"

namespace loosestep::bind {

namespace py = pybind11;

inline std::string memory_name(const py::object& path) {
  if (!py::isinstance<py::int_>(path) && !py::isinstance<py::str>(path))
    throw py::type_error("path must be a descriptor or a path, got " +
                         std::string(py::str(py::type::of(path))));
  return py::isinstance<py::int_>(path) ? "fd " + std::string(py::str(path)) : std::string(py::str(path));
}

// Map memory: a number is a descriptor from Host.make; a path is created or must exist.
inline shm::Mapping map_memory(const py::object& path, std::size_t bytes, bool create) {
  const std::string name = memory_name(path);
  const bool number = py::isinstance<py::int_>(path);
  const shm::File own = number ? shm::File(-1) : shm::File::opened(py::cast<std::string>(path), create);
  const int fd = number ? py::cast<int>(path) : own.get();
  if (create) shm::reserve(fd, bytes, name);
  return shm::Mapping(fd, bytes, name);
}

// Holds what belongs to this process: a fork copies the Python object, but neither the memory nor the thread.
template <class T> class ProcessOwned {
 public:
  explicit ProcessOwned(std::shared_ptr<T> what) : what_(std::move(what)) {}
  ~ProcessOwned() { close(); }

  // Return a reference, which keeps the object open if another thread closes it.
  std::shared_ptr<T> get(const char* name) const {
    if (const std::shared_ptr<T> open = usable()) return open;
    if (forked() && what_)
      throw std::runtime_error(std::string(name) +
                               " was opened by another process: a forked child cannot use it");
    throw py::value_error(std::string(name) + " is closed");
  }

  // Like get(), but return nullptr where it would throw.
  std::shared_ptr<T> usable() const {
    if (forked()) return nullptr;
    const std::lock_guard lock(mutex_);
    return what_;
  }

  void close() {
    if (forked()) return leak();
    std::shared_ptr<T> last;  // destroyed without the lock: it may have to join a thread
    const std::lock_guard lock(mutex_);
    last.swap(what_);
  }

 private:
  bool forked() const { return ::getpid() != pid_; }

  // In a forked child the memory is not mapped, the thread does not run, and the mutex may be locked for
  // ever.
  void leak() {
    if (what_) new std::shared_ptr<T>(std::move(what_));
  }

  mutable std::mutex mutex_;
  std::shared_ptr<T> what_;
  pid_t pid_ = ::getpid();
};

}  // namespace loosestep::bind
