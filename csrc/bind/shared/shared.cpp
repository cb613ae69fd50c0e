// Bindings of what threads share.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bind/shared/center.hpp"
#include "bind/shared/team.hpp"

namespace py = pybind11;
using namespace py::literals;
using loosestep::bind::Center;
using loosestep::bind::Team;

namespace {

void bind_team(py::module_& m) {
  py::class_<Team>(m, "Team",
                   "Split-phase collectives for `size` ranks, one thread each, matched by order of posting.")
      .def(py::init<int, int>(), "size"_a, "outstanding"_a = 32)
      .def_property_readonly("size", &Team::size)
      .def_property_readonly("outstanding", &Team::outstanding)
      .def("post_all_reduce", &Team::all_reduce, "rank"_a, "buf"_a, "op"_a = "sum", "weight"_a = 1.0)
      .def("post_broadcast", &Team::broadcast, "rank"_a, "buf"_a, "root"_a = 0)
      .def("post_all_gather", &Team::all_gather, "rank"_a, "piece"_a, "out"_a)
      .def("post_barrier", &Team::barrier, "rank"_a)
      .def("post_mix", &Team::mix, "rank"_a, "buf"_a, "scratch"_a, "ranks"_a, "weights"_a, "readers"_a)
      .def("complete", &Team::complete, "rank"_a, "ticket"_a, "seconds"_a)
      .def("missing", &Team::missing, "ticket"_a, "The ranks that have not posted this ticket.")
      .def("abort", &Team::abort, "Every present and future complete() returns 'aborted'.");
}

void bind_center(py::module_& m) {
  py::class_<Center>(m, "Center", "The center: one vector that many workers move, locked by chunk.")
      .def(py::init<const py::object&, std::size_t>(), "initial"_a, "chunk"_a = 16384)
      .def("elastic", &Center::elastic, "x"_a, "rate"_a, "rank"_a = 0, "d = rate * (x - c); x -= d; c += d.")
      .def("fetch", &Center::fetch, "out"_a, "rank"_a = 0)
      .def("push", &Center::push, "rule"_a, "others"_a, "values"_a, "scalars"_a, "rank"_a = 0)
      .def("store", &Center::store, "values"_a, "version"_a = 0)
      .def_property_readonly("version", &Center::version, "How many times elastic() or push() has completed.")
      .def_property_readonly("size", &Center::size)
      .def_property_readonly("dtype", &Center::dtype);
}

// Check the arguments of a push without a center, for centers that are elsewhere or updated later.
void check_push_rule(const std::string& rule, std::size_t shared, const py::sequence& values,
                     const std::vector<double>& scalars, std::size_t size, const std::string& dtype) {
  loosestep::bind::PushRule(rule, shared, scalars)
      .take_all(py::tuple(values), loosestep::bind::dtype_named(dtype), size);
}

}  // namespace

void bind_shared(py::module_& m) {
  py::register_exception<loosestep::shared::Mismatch>(m, "Mismatch", PyExc_RuntimeError);
  bind_team(m);
  bind_center(m);
  m.def("check_move", check_push_rule, "rule"_a, "shared"_a, "values"_a, "scalars"_a, "size"_a, "dtype"_a);
}
