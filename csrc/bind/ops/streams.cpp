// Measurements of what the memory of this machine can do.
#include "cpu/streams.hpp"

#include <algorithm>
#include <chrono>

#include "bind/ops/registry.hpp"
#include "bind/python/gil.hpp"
#include "cpu/threads.hpp"

namespace loosestep {
namespace {

FlatBuffer stream_buffer(const char* name, const py::object& given, const FlatBuffer* other) {
  const FlatBuffer buffer = flat_buffer("streams", name, given.ptr(), true, other, "x");
  if (buffer.dtype != float32 || buffer.n % 16 || reinterpret_cast<std::uintptr_t>(buffer.data) % 64)
    raise_error(PyExc_ValueError, std::string("streams: ") + name +
                                      " must be 64-byte aligned float32 with a multiple of 16 elements");
  return buffer;
}

void run(Stream stream, const py::object& first, const py::object& second) {
  const FlatBuffer x = stream_buffer("x", first, nullptr), y = stream_buffer("out", second, &x);
  const ReleaseGilIfLarge released(2 * x.bytes());
  parallel(x.n, block, 2 * x.bytes(), [&](std::size_t begin, std::size_t end) {
    stream(static_cast<float*>(x.data), static_cast<float*>(y.data), begin, end);
  });
}

using Places = py::array_t<std::uint32_t, py::array::c_style>;

double touch_places(py::array_t<float, py::array::c_style>& x, const Places& at) {
  const auto size = static_cast<std::size_t>(x.size()), n = static_cast<std::size_t>(at.size());
  if (std::any_of(at.data(), at.data() + n,
                  [size](std::uint32_t bind_arguments) { return bind_arguments >= size; }))
    throw py::value_error("streams: at must lie below x's " + std::to_string(size) + " elements");
  float* const data = x.mutable_data();
  const bind::ReleaseGil released;
  const auto start = std::chrono::steady_clock::now();
  touch(data, at.data(), n);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void add_streams(py::module_& parent) {
  py::module_ m = parent.def_submodule("streams", "Hand-written streams: what this machine's memory can do.");
  m.def(
      "update",
      [](const py::object& x, const py::object& y, bool streaming) {
        run(streams().update[streaming], x, y);
      },
      py::arg("x"), py::arg("y"), py::arg("streaming") = false,
      "Swap x and y: two arrays read and written in place, 16 bytes an element.");
  m.def(
      "copy",
      [](const py::object& x, const py::object& out, bool streaming) {
        run(streams().copy[streaming], x, out);
      },
      py::arg("x"), py::arg("out"), py::arg("streaming") = false, "out = x, 8 bytes an element.");
  m.def("touch", &touch_places, py::arg("x").noconvert(), py::arg("at").noconvert(),
        "x[at[k]] += 1 for all k, one after the other: what scattered places cost. Seconds it took, checks "
        "left out.");
  m.def(
      "ping_pong", &ping_pong, py::call_guard<bind::ReleaseGil>(),
      "Seconds that a cache line takes one way between two threads; infinite where they never ran together.");
}

}  // namespace loosestep
