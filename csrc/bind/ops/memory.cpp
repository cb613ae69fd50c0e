// Memory for flat buffers.
#include "cpu/memory.hpp"

#include "bind/ops/registry.hpp"

namespace loosestep {
namespace {

struct Memory {
  void* start;
  std::size_t bytes;
};

void free_memory(void* held) {
  const auto* memory = static_cast<Memory*>(held);
  release(memory->start, memory->bytes);
  delete memory;
}

// Return an array whose memory is freed with its last view.
py::array allocated(std::size_t bytes) {
  void* start = nullptr;
  {
    const ReleaseGilIfLarge released(bytes);
    start = allocate(bytes);
  }
  const py::capsule owner(new Memory{start, bytes}, free_memory);
  return py::array(py::dtype::of<unsigned char>(), {bytes}, {std::size_t(1)}, start, owner);
}

}  // namespace

void add_memory(py::module_& m) {
  m.def("allocate", &allocated, py::arg("size"), "Zeroed aligned memory as an array of bytes.");
}

}  // namespace loosestep
