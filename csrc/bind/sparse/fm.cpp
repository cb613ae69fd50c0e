// Bindings of factorization machines.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cmath>
#include <string>

#include "bind/python/interruptible.hpp"
#include "bind/sparse/sparse_rows.hpp"
#include "cpu/kernels.hpp"
#include "models/fm/epoch.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace loosestep::fm;
using loosestep::bind::data_of, loosestep::bind::source_of, loosestep::models::Source;

namespace {

// CSR rows with their targets and weights, checked once.
class SparseExamples {
 public:
  SparseExamples(const py::array& begin, const py::array& feature, const py::array& value,
                 const py::object& target, const py::object& weight, std::int32_t features)
      : source_(source_of(begin, feature, value, static_cast<std::size_t>(features))),
        held_(py::make_tuple(begin, feature, value, target, weight)) {
    const auto entries = static_cast<std::size_t>(feature.size());
    const std::int32_t* const columns = data_of<std::int32_t>(feature, "feature", entries);
    data_of<float>(value, "value", entries);
    source_.targets = data_of<float>(target, "target", source_.count);
    if (!weight.is_none()) source_.weights = data_of<float>(weight, "weight", source_.count);
    for (py::ssize_t i = 0; i < feature.size(); ++i)
      if (columns[i] < 0 || columns[i] >= features)
        throw py::value_error("feature must be in 0 .. " + std::to_string(features - 1) + ", got " +
                              std::to_string(columns[i]));
  }

  std::int64_t count() const { return static_cast<std::int64_t>(source_.count); }
  std::int32_t features() const { return static_cast<std::int32_t>(source_.features); }
  Examples examples() const {
    return {source_.starts, static_cast<const std::int32_t*>(source_.columns),
            static_cast<const float*>(source_.values), source_.targets, source_.weights};
  }

 private:
  Source source_;
  py::tuple held_;
};

class FactorMachine {
 public:
  FactorMachine(const py::array& v, const py::array& states, const py::object& intercept, int rank, float l2,
                float l2_linear, bool adagrad)
      : held_(py::make_tuple(v, states, intercept)), features_(v.ndim() == 2 ? v.shape(0) : 0) {
    if (v.ndim() != 2 || v.shape(1) % line || v.shape(1) < line || v.shape(1) > line * most_lines)
      throw py::value_error("v must be 2-dimensional, with rows of a multiple of 16 up to 128 elements");
    if (rank < 1 || rank > v.shape(1)) throw py::value_error("rank must be in 1 .. the rows' length");
    float* const at = mine(v, "v", v.size());
    model_ = {at,
              reinterpret_cast<FeatureState*>(mine(states, "heads", 4 * features_)),
              intercept.is_none() ? nullptr : mine(intercept, "intercept", 1),
              static_cast<int>(v.shape(1)) / line,
              rank,
              0,
              l2,
              l2_linear,
              adagrad};
  }

  // Train one epoch. Arrays may be read-only if they are only used for scores.
  double learn(const SparseExamples& examples, const std::string& loss, float rate, int threads,
               std::uint64_t seed, std::uint64_t epoch, const std::string& set) const {
    check(examples, threads);
    if (!writable_) throw py::value_error("v, heads and intercept must be writable");
    if (loss != "squared" && loss != "logistic")
      throw py::value_error("loss must be 'squared' or 'logistic', got '" + loss + "'");
    const LearnKernel learn = chosen(set).learn[loss == "squared" ? squared : logistic][model_.lines - 1];
    Model model = model_;
    model.rate = rate;
    return loosestep::bind::interruptible([&](auto stop) {
      return learn_epoch(model, examples.examples(), examples.count(), learn, threads,
                         loosestep::models::Random(seed, epoch), stop);
    });
  }

  py::array_t<float> score(const SparseExamples& examples, int threads, const std::string& set) const {
    check(examples, threads);
    py::array_t<float> out(static_cast<py::ssize_t>(examples.count()));
    float* const at = out.mutable_data();
    std::vector<std::uint32_t> order(static_cast<std::size_t>((examples.count() + chunk - 1) / chunk));
    std::iota(order.begin(), order.end(), 0u);
    const ScoreKernel score = chosen(set).score[model_.lines - 1];
    loosestep::bind::interruptible([&](auto stop) {
      for_chunks(
          order, examples.count(), threads,
          [&](int, std::int64_t begin, std::int64_t end) {
            score(model_, examples.examples(), begin, end, at);
          },
          stop);
      return 0.0;
    });
    return out;
  }

 private:
  void check(const SparseExamples& examples, int threads) const {
    if (examples.features() != features_)
      throw py::value_error("examples must have " + std::to_string(features_) + " features, got " +
                            std::to_string(examples.features()));
    if (threads < 1) throw py::value_error("threads must be at least 1, got " + std::to_string(threads));
  }

  static const KernelTable& chosen(const std::string& set) {
    if (set == "atomic") return atomic_table;
    return kernel_table(set.empty() ? loosestep::available().begin[0]->name : set.c_str());
  }

  float* mine(const py::object& given, const char* name, py::ssize_t size) {
    const float* const at = data_of<float>(given, name, static_cast<std::size_t>(size));
    writable_ = writable_ && py::reinterpret_borrow<py::array>(given).writeable();
    return const_cast<float*>(at);
  }

  py::tuple held_;
  py::ssize_t features_;
  bool writable_ = true;
  Model model_;
};

}  // namespace

void bind_fm(py::module_& m) {
  py::class_<SparseExamples>(m, "SparseExamples", "CSR rows, and what is to be learned of each.")
      .def(py::init<const py::array&, const py::array&, const py::array&, const py::object&,
                    const py::object&, std::int32_t>(),
           "begin"_a, "feature"_a, "value"_a, "target"_a, "weight"_a, "features"_a);
  py::class_<FactorMachine>(m, "FactorMachine",
                            "A factorization machine; learning moves its arrays in place.")
      .def(py::init<const py::array&, const py::array&, const py::object&, int, float, float, bool>(), "v"_a,
           "heads"_a, "intercept"_a, "rank"_a, "l2"_a, "l2_linear"_a, "adagrad"_a)
      .def("learn", &FactorMachine::learn, "examples"_a, "loss"_a, "rate"_a, "threads"_a = 1, "seed"_a = 0,
           "epoch"_a = 0, "isa"_a = "", "One epoch; the sum of the losses, each before it was learned.")
      .def("score", &FactorMachine::score, "examples"_a, "threads"_a = 1, "isa"_a = "",
           "The prediction for each example.");
}
