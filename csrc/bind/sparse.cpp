// The sparse engine as Python sees it: checks, the GIL, words for choices. No loop over data.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>

#include "bind/interruptible.hpp"
#include "bind/sparse_rows.hpp"
#include "models/linear.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace loosestep::models;
using namespace loosestep::bind;

namespace {

template <class T>
T chosen(const std::map<std::string, T>& choices, const std::string& name, const std::string& given) {
  if (const auto found = choices.find(given); found != choices.end()) return found->second;
  std::string all;
  for (const auto& [word, value] : choices) all += (all.empty() ? "" : ", ") + word;
  throw py::value_error(name + " must be one of " + all + "; got " + given);
}

// --- the model ---------------------------------------------------------------------------------------------

const std::map<std::string, LossKind> losses{{"log_loss", LossKind::logistic},
                                             {"hinge", LossKind::hinge},
                                             {"squared_hinge", LossKind::squared_hinge},
                                             {"squared_error", LossKind::squared},
                                             {"huber", LossKind::huber},
                                             {"softmax", LossKind::softmax}};
const std::map<std::string, Schedule> schedules{
    {"constant", Schedule::constant}, {"invscaling", Schedule::invscaling}, {"optimal", Schedule::optimal}};
const std::map<std::string, Precision> precisions{{"float32", Precision::float32},
                                                  {"bfloat16", Precision::bfloat16}};
const std::map<std::string, Adds> adds_words{{"racy", Adds::racy}, {"exact", Adds::exact}};
const std::map<std::string, Discipline> disciplines{
    {"free", Discipline::free}, {"locked", Discipline::locked}, {"turns", Discipline::turns}};

// Takes what it knows out of the options; what is left over is an error.
class Options {
 public:
  explicit Options(const py::dict& given) : left_(given.attr("copy")()) {}
  template <class T> void take(const char* name, T& into) {
    if (left_.contains(name)) into = py::cast<T>(left_.attr("pop")(name));
  }
  template <class T> void choose(const char* name, const std::map<std::string, T>& choices, T& into) {
    if (left_.contains(name)) into = chosen(choices, name, py::cast<std::string>(left_.attr("pop")(name)));
  }
  void nothing_left() const {
    if (!left_.empty()) throw py::type_error("unknown options: " + std::string(py::str(py::list(left_))));
  }

 private:
  py::dict left_;
};

Training training_of(const py::dict& given) {
  Training t;
  Options options(given);
  options.choose("loss", losses, t.loss.kind), options.take("epsilon", t.loss.epsilon);
  options.choose("schedule", schedules, t.rate.schedule), options.take("eta0", t.rate.eta0);
  options.take("power_t", t.rate.exponent), options.take("alpha", t.rate.alpha),
      options.take("offset", t.rate.offset);
  options.take("l2", t.l2), options.take("l1", t.l1), options.take("intercept_step", t.intercept_step);
  options.take("adagrad", t.adagrad), options.take("deterministic", t.deterministic);
  options.take("diagnose", t.diagnose), options.take("average", t.average),
      options.choose("adds", adds_words, t.adds);
  options.choose("discipline", disciplines, t.discipline), options.take("seed", t.seed),
      options.take("epoch", t.epoch);
  options.take("steps", t.steps), options.take("period", t.period), options.take("measure", t.measure);
  options.take("tail_every", t.tail_every);
  options.nothing_left();
  if (t.period < 1 || t.measure < 1 || t.tail_every < 1)
    throw py::value_error("period, tail_every and measure must be at least 1");
  return t;
}

void check_fit(const Weights& weights, const Laid& rows, const Training& training) {
  if (rows.places != weights.places || rows.outputs != weights.outputs ||
      rows.head * rows.outputs != weights.head.size())
    throw py::value_error("the rows were laid out for another model");
  if (training.deterministic && weights.head.size() != weights.size())
    throw py::value_error("deterministic: all of the model must be its head");
  if (training.deterministic && training.discipline != Discipline::free)
    throw py::value_error("deterministic: the discipline must be free");
  if ((training.adagrad && weights.squares.size() + weights.head_squares.size() != weights.size()) ||
      (training.average && weights.average.size() != weights.size()))
    throw py::value_error("the model was made without adagrad or average");
}

py::dict words(const Told& told) {
  py::dict out("loss"_a = told.measured ? told.loss / double(told.measured) : 0.0,
               "examples"_a = told.examples, "sweeps"_a = told.sweeps, "updates"_a = told.updates,
               "finite"_a = told.finite);
  out["retried"] = told.retried, out["cut"] = told.cut;
  out["watched"] = py::dict("examples"_a = told.seen.examples, "coordinates"_a = told.seen.coordinates,
                            "conflicts"_a = told.seen.conflicts, "staleness"_a = told.seen.staleness,
                            "places"_a = told.seen.places);
  return out;
}

py::dict train(Weights& weights, const Laid& laid, const py::object& per_touch, const py::dict& options) {
  Training training = training_of(options);
  if (!per_touch.is_none()) training.per_touch = data_of<float>(per_touch, "per_touch", weights.places);
  check_fit(weights, laid, training);
  return words(
      interruptible([&](auto stop) { return epoch(weights, laid.prepared.rows(), training, stop); }));
}

std::unique_ptr<Weights> make(std::size_t places, std::size_t head, std::size_t outputs, int threads,
                              const std::string& precision, bool adagrad, bool average) {
  if (places < 1 || outputs < 1 || head > places)
    throw py::value_error("places and outputs must be at least 1, head at most the number of places");
  return std::make_unique<Weights>(places, head, outputs, at_least_one_thread(threads),
                                   chosen(precisions, "precision", precision), adagrad, average);
}

void copy_out(const Block<float>& block, const py::object& out) {
  std::copy_n(block.data(), block.size(), written<float>(out, "out", block.size()));
}

void load_average(Weights& weights, const py::object& from, const std::vector<std::uint64_t>& averaged,
                  std::size_t reach) {
  const float* values = data_of<float>(from, "from", weights.average.size());
  if (weights.average.size() == 0) throw py::value_error("the model was made without average");
  if (averaged.size() != weights.averaged.size())
    throw py::value_error("averaged must have a number for each thread, " +
                          std::to_string(weights.averaged.size()) + ", got " + std::to_string(averaged.size()));
  if (reach > weights.places)
    throw py::value_error("reach must be at most the number of places, got " + std::to_string(reach));
  std::copy_n(values, weights.average.size(), weights.average.data());
  weights.averaged = averaged, weights.reach = std::max(weights.reach, reach);
}

void bind_rows(py::module_& m) {
  m.def("count_features", &count, "starts"_a, "columns"_a, "values"_a, "features"_a, "threads"_a,
        "How many entries each feature has; refuses columns outside and values that are not finite.");
  py::class_<Laid>(m, "SparseRows", "Sparse rows, shuffled and laid out for one model.")
      .def(py::init(&lay), "starts"_a, "columns"_a, "values"_a, "places"_a, "head"_a, "outputs"_a,
           "targets"_a, "weights"_a, "threads"_a, "seed"_a)
      .def_property_readonly("count", [](const Laid& rows) { return rows.prepared.rows().count; })
      .def_property_readonly("entries", [](const Laid& rows) { return rows.prepared.entries(); });
}

void bind_linear(py::module_& m) {
  py::class_<Weights>(m, "LinearModel", "A linear model, by places: 0 is the intercept.")
      .def(py::init(&make), "places"_a, "head"_a, "outputs"_a, "threads"_a, "precision"_a = "float32",
           "adagrad"_a = false, "average"_a = false)
      .def("load",
           [](Weights& weights, const py::object& from) {
             const float* values = data_of<float>(from, "from", weights.size());
             for (std::size_t i = 0; i < weights.size(); ++i) weights.set(i, values[i]);
           })
      .def("read",
           [](const Weights& weights, const py::object& out) {
             float* values = written<float>(out, "out", weights.size());
             for (std::size_t i = 0; i < weights.size(); ++i) values[i] = weights.at(i);
           })
      .def("read_average",
           [](const Weights& weights, const py::object& out) { copy_out(weights.average, out); })
      .def("load_average", &load_average, "from"_a, "averaged"_a, "reach"_a,
           "The mean so far: how many iterates are in each thread's part of it, and how far it reaches.")
      .def_readonly("averaged", &Weights::averaged)
      .def_readonly("reach", &Weights::reach)
      .def("load_squares",
           [](Weights& weights, const py::object& from) {
             const float* values = data_of<float>(from, "from", weights.size());
             std::copy_n(values, weights.head_squares.size(), weights.head_squares.center());
             std::copy_n(values + weights.head_squares.size(), weights.squares.size(),
                         weights.squares.data());
           })
      .def("read_squares",
           [](const Weights& weights, const py::object& out) {
             float* values = written<float>(out, "out", weights.size());
             std::copy_n(weights.head_squares.center(), weights.head_squares.size(), values);
             std::copy_n(weights.squares.data(), weights.squares.size(),
                         values + weights.head_squares.size());
           })
      .def("epoch", &train, "rows"_a, "per_touch"_a, "options"_a,
           "One pass over the rows; tells what it saw.");
}

}  // namespace

void bind_sparse(py::module_& m) {
  bind_rows(m);
  bind_linear(m);
}
