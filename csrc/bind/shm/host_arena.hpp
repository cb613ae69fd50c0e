// The binding of HostArena: arrays in memory that all ranks of a host map, and after close() in private
// memory.
#pragma once

#include <fcntl.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <utility>

#include "bind/python/arrays.hpp"
#include "bind/python/gil.hpp"
#include "bind/shared/collective_args.hpp"
#include "bind/shm/owned.hpp"
#include "shm/arena.hpp"

namespace loosestep::bind {

class HostArena {
 public:
  HostArena(const py::object& path, int size, int rank, bool create)
      : arena_(std::make_shared<shm::Arena>(opened(path, at_least_one(size, "size"), create), size,
                                            checked_rank(rank, "rank", size))) {}

  static int make(int size) { return shm::Arena::make(at_least_one(size, "size")); }

  const std::shared_ptr<shm::Arena>& arena() const { return arena_; }

  // Return an array of bytes, or None where there is no room. The array keeps the arena alive.
  py::object allocate(std::size_t bytes) const {
    std::byte* memory = nullptr;
    {
      const bind::ReleaseGil release;
      memory = arena_->allocate(bytes);
    }
    if (!memory) return py::none();
    const py::capsule owner(new Held{arena_, memory}, free_memory);
    return py::array(py::dtype::of<unsigned char>(), {bytes}, {std::size_t(1)}, memory, owner);
  }

  bool holds(const py::array& array) const {
    return arena_->holds(array.data(), static_cast<std::size_t>(array.nbytes()));
  }

  void close() const {
    const bind::ReleaseGil release;
    arena_->close();
  }

 private:
  struct Held {
    std::shared_ptr<shm::Arena> arena;
    std::byte* memory;
  };

  static void free_memory(void* held) {
    const std::unique_ptr<Held> last(static_cast<Held*>(held));
    last->arena->release(last->memory);
  }

  // A number is a descriptor, which stays the caller's.
  static shm::File opened(const py::object& path, int size, bool create) {
    const std::string name = memory_name(path);
    if (py::isinstance<py::int_>(path)) {
      shm::File own(::fcntl(py::cast<int>(path), F_DUPFD_CLOEXEC, 0));
      if (own.get() < 0) shm::fail(errno, "shared memory cannot be opened at " + name);
      return own;
    }
    shm::File file = shm::File::opened(name, create);
    if (create) shm::Shares::extend(file.get(), shm::Shares::bytes(size));
    return file;
  }

  std::shared_ptr<shm::Arena> arena_;
};

inline std::shared_ptr<shm::Arena> arena_of(const HostArena* arena) {
  return arena ? arena->arena() : nullptr;
}

}  // namespace loosestep::bind
