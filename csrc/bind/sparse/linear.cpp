// Bindings of linear models.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "bind/python/interruptible.hpp"
#include "bind/sparse/epoch_options.hpp"
#include "bind/sparse/sparse_rows.hpp"
#include "models/linear/model.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace loosestep::models;
using namespace loosestep::bind;

namespace {

void check_fit(const LinearModel& model, const SparseRows& rows, const EpochOptions& options) {
  if (rows.places != model.places || rows.outputs != model.outputs ||
      rows.head * rows.outputs != model.head.size())
    throw py::value_error("the rows were laid out for another model");
  if (options.deterministic && model.head.size() != model.size())
    throw py::value_error("deterministic: all of the model must be its head");
  if (options.deterministic && options.discipline != Discipline::free)
    throw py::value_error("deterministic: the discipline must be free");
  if ((options.adagrad && model.squares.size() + model.head_squares.size() != model.size()) ||
      (options.average && model.average.size() != model.size()))
    throw py::value_error("the model was made without adagrad or average");
}

py::dict to_dict(const EpochStats& stats) {
  py::dict out("loss"_a = stats.measured ? stats.loss / double(stats.measured) : 0.0,
               "examples"_a = stats.examples, "sweeps"_a = stats.sweeps, "updates"_a = stats.updates,
               "finite"_a = stats.finite);
  out["retried"] = stats.retried, out["cut"] = stats.clipped;
  out["watched"] =
      py::dict("examples"_a = stats.conflicts.examples, "coordinates"_a = stats.conflicts.coordinates,
               "conflicts"_a = stats.conflicts.conflicts, "staleness"_a = stats.conflicts.staleness,
               "places"_a = stats.conflicts.places);
  return out;
}

py::dict train(LinearModel& model, const SparseRows& rows, const py::object& per_touch,
               const py::dict& given) {
  EpochOptions options = epoch_options(given);
  if (!per_touch.is_none()) options.per_touch = data_of<float>(per_touch, "per_touch", model.places);
  check_fit(model, rows, options);
  return to_dict(interruptible([&](auto stop) { return epoch(model, rows.prepared.rows(), options, stop); }));
}

std::unique_ptr<LinearModel> make(std::size_t places, std::size_t head, std::size_t outputs, int threads,
                                  const std::string& precision, bool adagrad, bool average) {
  if (places < 1 || outputs < 1 || head > places)
    throw py::value_error("places and outputs must be at least 1, head at most the number of places");
  return std::make_unique<LinearModel>(places, head, outputs, at_least_one_thread(threads),
                                       enum_value<Precision>("precision", precision), adagrad, average);
}

void copy_out(const AlignedArray<float>& array, const py::object& out) {
  std::copy_n(array.data(), array.size(), written<float>(out, "out", array.size()));
}

void load_average(LinearModel& model, const py::object& from, const std::vector<std::uint64_t>& averaged,
                  std::size_t reach) {
  const float* values = data_of<float>(from, "from", model.average.size());
  if (model.average.size() == 0) throw py::value_error("the model was made without average");
  if (averaged.size() != model.averaged.size())
    throw py::value_error("averaged must have a number for each thread, " +
                          std::to_string(model.averaged.size()) + ", got " + std::to_string(averaged.size()));
  if (reach > model.places)
    throw py::value_error("reach must be at most the number of places, got " + std::to_string(reach));
  std::copy_n(values, model.average.size(), model.average.data());
  model.averaged = averaged, model.reach = std::max(model.reach, reach);
}

void bind_rows(py::module_& m) {
  m.def("count_features", &count, "starts"_a, "columns"_a, "values"_a, "features"_a, "threads"_a,
        "How many entries each feature has; refuses columns outside and values that are not finite.");
  py::class_<SparseRows>(m, "SparseRows", "Sparse rows, shuffled and laid out for one model.")
      .def(py::init(&lay), "starts"_a, "columns"_a, "values"_a, "places"_a, "head"_a, "outputs"_a,
           "targets"_a, "weights"_a, "threads"_a, "seed"_a)
      .def_property_readonly("count", [](const SparseRows& rows) { return rows.prepared.rows().count; })
      .def_property_readonly("entries", [](const SparseRows& rows) { return rows.prepared.entries(); });
}

void bind_model(py::module_& m) {
  py::class_<LinearModel>(m, "LinearModel", "A linear model, by places: 0 is the intercept.")
      .def(py::init(&make), "places"_a, "head"_a, "outputs"_a, "threads"_a, "precision"_a = "float32",
           "adagrad"_a = false, "average"_a = false)
      .def("load",
           [](LinearModel& model, const py::object& from) {
             const float* values = data_of<float>(from, "from", model.size());
             for (std::size_t i = 0; i < model.size(); ++i) model.set(i, values[i]);
           })
      .def("read",
           [](const LinearModel& model, const py::object& out) {
             float* values = written<float>(out, "out", model.size());
             for (std::size_t i = 0; i < model.size(); ++i) values[i] = model.at(i);
           })
      .def("read_average",
           [](const LinearModel& model, const py::object& out) { copy_out(model.average, out); })
      .def("load_average", &load_average, "from"_a, "averaged"_a, "reach"_a,
           "The mean so far: how many iterates are in each thread's part of it, and how far it reaches.")
      .def_readonly("averaged", &LinearModel::averaged)
      .def_readonly("reach", &LinearModel::reach)
      .def("load_squares",
           [](LinearModel& model, const py::object& from) {
             const float* values = data_of<float>(from, "from", model.size());
             std::copy_n(values, model.head_squares.size(), model.head_squares.center());
             std::copy_n(values + model.head_squares.size(), model.squares.size(), model.squares.data());
           })
      .def("read_squares",
           [](const LinearModel& model, const py::object& out) {
             float* values = written<float>(out, "out", model.size());
             std::copy_n(model.head_squares.center(), model.head_squares.size(), values);
             std::copy_n(model.squares.data(), model.squares.size(), values + model.head_squares.size());
           })
      .def("epoch", &train, "rows"_a, "per_touch"_a, "options"_a,
           "Train on all rows once; return what was measured.");
}

}  // namespace

void bind_linear(py::module_& m) {
  bind_rows(m);
  bind_model(m);
}
