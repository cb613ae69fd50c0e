// Products with thin matrices, and transforms of tiles.
#include "codecs/thin.hpp"

#include "bind/codecs/arguments.hpp"
#include "bind/codecs/groups.hpp"

namespace loosestep::bind {

using namespace codecs;

namespace {

size_t rows_of(size_t n, size_t columns) {
  if (columns < 1) throw py::value_error("columns must be at least 1, got 0");
  return (n + columns - 1) / columns;
}

void add_products(py::module_& m) {
  m.def(
      "unit_of", [](const py::object& x) { return run([values = values_of(x)] { return unit_of(values); }); },
      py::arg("x"), "A power of two that brings the largest near 1; 0 where x is not finite.");
  m.def(
      "times",
      [](const py::object& x, size_t columns, size_t rank, double unit, const py::object& q,
         const py::object& p) {
        const Values values = values_of(x);
        const double* const from = doubles(q, "q", rank * columns, false);
        double* const to = doubles(p, "p", rows_of(values.n, columns) * rank, true);
        run([&] { times(values, columns, rank, unit, from, to); });
      },
      py::arg("x"), py::arg("columns"), py::arg("rank"), py::arg("unit"), py::arg("q"), py::arg("p"),
      "p (rows x rank) = unit X q', where q is rank x columns.");
  m.def(
      "times_transposed",
      [](const py::object& x, size_t columns, size_t rank, double unit, const py::object& p,
         const py::object& q) {
        const Values values = values_of(x);
        const double* const from = doubles(p, "p", rows_of(values.n, columns) * rank, false);
        double* const to = doubles(q, "q", rank * columns, true);
        run([&] { times_transposed(values, columns, rank, unit, from, to); });
      },
      py::arg("x"), py::arg("columns"), py::arg("rank"), py::arg("unit"), py::arg("p"), py::arg("q"),
      "q (rank x columns) = p' X; `unit` only keeps sums from overflowing.");
  m.def(
      "orthonormal",
      [](const py::object& p, size_t rank) {
        const Room room = room_of(p, "p");
        if (room.dtype != float64 || rank < 1 || room.n % rank) refuse("p", "float64, rows x rank");
        run([&] { orthonormal(static_cast<double*>(room.data), room.n / rank, rank); });
      },
      py::arg("p"), py::arg("rank"), "Make the columns of p orthonormal, from the first to the last.");
  m.def(
      "product",
      [](const py::object& p, const py::object& q, size_t columns, size_t rank, const py::object& out) {
        const Room room = room_of(out);
        const double* const left = doubles(p, "p", rows_of(room.n, columns) * rank, false);
        const double* const right = doubles(q, "q", rank * columns, false);
        run([&] { product(left, right, columns, rank, room); });
      },
      py::arg("p"), py::arg("q"), py::arg("columns"), py::arg("rank"), py::arg("out"),
      "out = p q, row by row.");
}

}  // namespace

void add_thin(py::module_& m) {
  add_products(m);
  m.def(
      "transform",
      [](const py::object& x, const py::object& left, const py::object& right, const py::object& out) {
        const Values values = values_of(x), first = values_of(left, "left"),
                     second = values_of(right, "right");
        const Room room = room_of(out);
        size_t side = 1;
        while (side * side < first.n) ++side;
        const bool alike =
            first.dtype == values.dtype && second.dtype == values.dtype && room.dtype == values.dtype;
        if (!alike || side > 64 || side * side != first.n || second.n != first.n)
          refuse("left and right", "square, of 64 x 64 at most, of the type of x");
        if (room.n != values.n || values.n % first.n)
          refuse("x and out", "as long as each other, whole tiles");
        run([&] { transform(values, first.data, second.data, side, room); });
      },
      py::arg("x"), py::arg("left"), py::arg("right"), py::arg("out"),
      "Each tile of x becomes left tile right.");
}

}  // namespace loosestep::bind
