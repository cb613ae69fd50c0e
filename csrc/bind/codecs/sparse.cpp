// Messages of some of the values.
#include "bind/codecs/arguments.hpp"
#include "bind/codecs/groups.hpp"

namespace loosestep::bind {

using namespace codecs;

namespace {

Selection selection_of(size_t count, size_t chunk, size_t keep) {
  if (chunk < 1 || keep < 1 || keep > chunk)
    throw py::value_error("keep must be in 1 .. chunk=" + std::to_string(chunk) + ", got " +
                          std::to_string(keep));
  int bits = 0;
  while ((std::uint64_t(1) << bits) < chunk) ++bits;
  return {count, chunk, keep, bits};
}

Values kept_values(const py::object& given, const Selection& of, const Room& out) {
  const Values values = values_of(given, "kept");
  if (values.n != kept_of(of) || values.dtype != out.dtype)
    refuse("kept", "as many as are kept, of the type of out");
  return values;
}

size_t index_bytes(const Selection& of) { return (kept_of(of) * static_cast<size_t>(of.bits) + 7) / 8; }

int checked_width(int bits) {
  if (bits != 16 && bits != 32 && bits != 64)
    throw py::value_error("bits must be 16, 32 or 64, got " + std::to_string(bits));
  return bits;
}

void add_selected(py::module_& m) {
  m.def(
      "select",
      [](const py::object& x, size_t chunk, size_t keep, const py::object& kept, const py::object& wire,
         size_t at) {
        const Values values = values_of(x);
        const Selection of = selection_of(values.n, chunk, keep);
        const Array room = writable_array(kept, "kept");
        require_size(room, "kept", kept_of(of), "as many as are kept");
        if (kernel_dtype(room.dtype) != values.dtype) refuse("kept", "of the type of x");
        return run(
            [&, to = wire_of(wire, at + index_bytes(of)) + at] { return select(values, of, room.data, to); });
      },
      py::arg("x"), py::arg("chunk"), py::arg("keep"), py::arg("kept"), py::arg("wire"), py::arg("at"),
      "The largest of each chunk: values, and indices from byte `at` on; False where x is not finite.");
  m.def(
      "place",
      [](const py::object& kept, const py::object& wire, size_t at, size_t chunk, size_t keep,
         const py::object& out) {
        const Room room = room_of(out);
        const Selection of = selection_of(room.n, chunk, keep);
        const Values values = kept_values(kept, of, room);
        run([&, from = words_of(wire, at + index_bytes(of)) + at] { place(values.data, from, of, room); });
      },
      py::arg("kept"), py::arg("wire"), py::arg("at"), py::arg("chunk"), py::arg("keep"), py::arg("out"),
      "Fill `out` with what was kept, and 0 elsewhere.");
  m.def(
      "add",
      [](const py::object& kept, const py::object& wire, size_t at, size_t chunk, size_t keep, double weight,
         const py::object& out) {
        const Room room = room_of(out);
        const Selection of = selection_of(room.n, chunk, keep);
        const Values values = kept_values(kept, of, room);
        run([&, from = words_of(wire, at + index_bytes(of)) + at] {
          add(values.data, from, of, weight, room);
        });
      },
      py::arg("kept"), py::arg("wire"), py::arg("at"), py::arg("chunk"), py::arg("keep"), py::arg("weight"),
      py::arg("out"), "Add what was kept, times a weight.");
}

template <class T> void move_drawn(const std::vector<size_t>& places, T* x, T* kept, bool out) {
  for (size_t j = 0; j < places.size(); ++j) out ? x[places[j]] = kept[j] : kept[j] = x[places[j]];
}

void move_drawn(const Room& x, const Room& kept, std::uint64_t key, bool out) {
  if (kept.n > x.n || kept.dtype != x.dtype) refuse("kept", "at most as long as x, of its type");
  run([&] {
    std::vector<size_t> places;
    drawn(x.n, kept.n, key, places);
    if (x.dtype == float32)
      move_drawn(places, static_cast<float*>(x.data), static_cast<float*>(kept.data), out);
    else
      move_drawn(places, static_cast<double*>(x.data), static_cast<double*>(kept.data), out);
  });
}

Room unwritten(const Values& x) { return {const_cast<void*>(x.data), x.n, x.dtype}; }

void add_moved(py::module_& m) {
  m.def(
      "gather",
      [](const py::object& x, const py::object& kept, std::uint64_t key) {
        move_drawn(unwritten(values_of(x)), room_of(kept, "kept"), key, false);
      },
      py::arg("x"), py::arg("kept"), py::arg("key"),
      "One value of each of as many stretches, drawn by a key.");
  m.def(
      "scatter",
      [](const py::object& kept, const py::object& out, std::uint64_t key) {
        move_drawn(room_of(out), unwritten(values_of(kept, "kept")), key, true);
      },
      py::arg("kept"), py::arg("out"), py::arg("key"), "Put values to where `gather` took them.");
  m.def(
      "narrow",
      [](const py::object& x, const py::object& wire, size_t at, int bits) {
        const Values values = values_of(x);
        const size_t bytes = values.n * static_cast<size_t>(checked_width(bits)) / 8;
        run([&, to = wire_of(wire, at + bytes) + at] { narrow(values, bits, to); });
      },
      py::arg("x"), py::arg("wire"), py::arg("at"), py::arg("bits"),
      "Write values from byte `at` on in so many bits.");
  m.def(
      "widen",
      [](const py::object& wire, size_t at, const py::object& out, int bits) {
        const Room room = room_of(out);
        const size_t bytes = room.n * static_cast<size_t>(checked_width(bits)) / 8;
        run([&, from = words_of(wire, at + bytes) + at] { widen(from, bits, room); });
      },
      py::arg("wire"), py::arg("at"), py::arg("out"), py::arg("bits"), "Read what `narrow` wrote.");
}

}  // namespace

void add_sparse(py::module_& m) {
  add_selected(m);
  add_moved(m);
}

}  // namespace loosestep::bind
