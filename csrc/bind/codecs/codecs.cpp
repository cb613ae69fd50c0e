// Wire formats on numpy arrays: loosestep/codecs describes each.
#include "bind/codecs/arguments.hpp"
#include "bind/codecs/groups.hpp"
#include "codecs/messages.hpp"

namespace loosestep::bind {

using namespace codecs;

namespace {

size_t wire_bytes_of(Format format, size_t n) {
  const size_t block = format == e3m0 ? 64 : 256, exponents = 2 * ((n + block - 1) / block);
  if (format == bfloat16) return 2 * n;
  if (format == float16) return exponents + 2 * n;
  return exponents + (format == e3m0 ? (n + 1) / 2 : n);
}

Format format_of(const std::string& name) {
  const char* const names[] = {"float16", "e4m3", "e5m2", "e3m0", "bfloat16"};
  for (int i = 0; i < formats; ++i)
    if (name == names[i]) return static_cast<Format>(i);
  throw py::value_error("kind must be float16, e4m3, e5m2, e3m0 or bfloat16, got '" + name + "'");
}

size_t bytes_of_bits(size_t bits) { return (bits + 7) / 8; }

void add_whole(py::module_& m) {
  m.def(
      "encode",
      [](const std::string& name, const py::object& x, const py::object& wire) {
        const Format format = format_of(name);
        const Values values = values_of(x);
        return run(
            [&, to = wire_of(wire, wire_bytes_of(format, values.n))] { return encode(format, values, to); });
      },
      py::arg("kind"), py::arg("x"), py::arg("wire"),
      "Round to a format of few bits; False where x is not finite.");
  m.def(
      "decode",
      [](const std::string& name, const py::object& wire, const py::object& out) {
        const Format format = format_of(name);
        const Room room = room_of(out);
        run([&, from = words_of(wire, wire_bytes_of(format, room.n))] { decode(format, from, room); });
      },
      py::arg("kind"), py::arg("wire"), py::arg("out"), "Fill `out` with what `encode` rounded.");
  m.def(
      "sign_encode",
      [](const py::object& x, const py::object& wire) {
        const Values values = values_of(x);
        return run([&, to = wire_of(wire, 4 + bytes_of_bits(values.n))] { return sign_encode(values, to); });
      },
      py::arg("x"), py::arg("wire"), "The mean size and the signs; False where x is not finite.");
  m.def(
      "sign_decode",
      [](const py::object& wire, const py::object& out) {
        const Room room = room_of(out);
        run([&, from = words_of(wire, 4 + bytes_of_bits(room.n))] { sign_decode(from, room); });
      },
      py::arg("wire"), py::arg("out"), "The mean size with each sign.");
}

Dither dither_of(int levels, size_t bucket, std::uint64_t key) {
  if (levels < 1 || levels > 127)
    throw py::value_error("levels must be in 1 .. 127, got " + std::to_string(levels));
  if (bucket < 8 || bucket % 8)
    throw py::value_error("bucket must be a multiple of 8, got " + std::to_string(bucket));
  int bits = 1;
  while (1 << bits < 2 * levels + 1) ++bits;
  return {key, levels, bits, bucket};
}

size_t bytes_of(const Dither& how, size_t n) {
  return 4 * ((n + how.bucket - 1) / how.bucket) + bytes_of_bits(n * static_cast<size_t>(how.bits));
}

int checked_bits(int bits) {
  if (bits < 1 || bits > 8) throw py::value_error("bits must be in 1 .. 8, got " + std::to_string(bits));
  return bits;
}

size_t bytes_of_bins(int bits, size_t n) {
  return (size_t(4) << checked_bits(bits)) + bytes_of_bits(n * static_cast<size_t>(bits));
}

void add_rounded(py::module_& m) {
  m.def(
      "dither_encode",
      [](const py::object& x, const py::object& wire, int levels, size_t bucket, std::uint64_t key) {
        const Values values = values_of(x);
        const Dither how = dither_of(levels, bucket, key);
        return run(
            [&, to = wire_of(wire, bytes_of(how, values.n))] { return dither_encode(values, how, to); });
      },
      py::arg("x"), py::arg("wire"), py::arg("levels"), py::arg("bucket"), py::arg("key"),
      "Lengths of buckets, and levels at random; False where x is not finite.");
  m.def(
      "dither_decode",
      [](const py::object& wire, const py::object& out, int levels, size_t bucket) {
        const Room room = room_of(out);
        const Dither how = dither_of(levels, bucket, 0);
        run([&, from = words_of(wire, bytes_of(how, room.n))] { dither_decode(from, how, room); });
      },
      py::arg("wire"), py::arg("out"), py::arg("levels"), py::arg("bucket"),
      "Levels in units of their bucket.");
  m.def(
      "bins_encode",
      [](const py::object& x, const py::object& wire, int bits) {
        const Values values = values_of(x);
        return run(
            [&, to = wire_of(wire, bytes_of_bins(bits, values.n))] { return bins_encode(values, bits, to); });
      },
      py::arg("x"), py::arg("wire"), py::arg("bits"),
      "Means of 2^bits bins, and numbers; False where x is not finite.");
  m.def(
      "bins_decode",
      [](const py::object& wire, const py::object& out, int bits) {
        const Room room = room_of(out);
        run([&, from = words_of(wire, bytes_of_bins(bits, room.n))] { bins_decode(from, bits, room); });
      },
      py::arg("wire"), py::arg("out"), py::arg("bits"), "The mean of each value's bin.");
}

}  // namespace
}  // namespace loosestep::bind

void bind_codecs(pybind11::module_& parent) {
  using namespace loosestep::bind;
  py::module_ m = parent.def_submodule("codecs", "Wire formats: loosestep.codecs describes each.");
  add_whole(m);
  add_rounded(m);
  add_sparse(m);
  add_thin(m);
  m.def("use", &loosestep::codecs::use_instruction_set, py::arg("isa"),
        "For tests: the instruction set to use.");
}
