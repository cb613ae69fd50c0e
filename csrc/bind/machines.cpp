// Factorization machines over sparse rows.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cmath>
#include <string>

#include "bind/interruptible.hpp"
#include "cpu/kernels.hpp"
#include "models/factors_epoch.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace loosestep::factors;

namespace {

template <class T> using Array = py::array_t<T, py::array::c_style>;

template <class T> Array<T> taken(const py::object& given, const char* name, py::ssize_t size) {
  if (!Array<T>::check_(given))
    throw py::type_error(std::string(name) + " must be contiguous " +
                         py::str(py::dtype::of<T>()).cast<std::string>());
  auto array = py::reinterpret_borrow<Array<T>>(given);
  if (size >= 0 && array.size() != size)
    throw py::value_error(std::string(name) + " must have " + std::to_string(size) + " elements, got " +
                          std::to_string(array.size()));
  return array;
}

// CSR rows with what is to be learned of each; checked once.
class SparseExamples {
 public:
  SparseExamples(const py::object& begin, const py::object& feature, const py::object& value,
                 const py::object& target, const py::object& weight, std::int32_t features)
      : begin_(taken<std::int64_t>(begin, "begin", -1)),
        feature_(taken<std::int32_t>(feature, "feature", -1)),
        value_(taken<float>(value, "value", feature_.size())),
        target_(taken<float>(target, "target", begin_.size() - 1)),
        weight_(weight.is_none() ? Array<float>() : taken<float>(weight, "weight", begin_.size() - 1)),
        features_(features) {
    const std::int64_t* at = begin_.data();
    bool rising = begin_.size() > 0 && at[0] == 0 && at[begin_.size() - 1] == feature_.size();
    for (py::ssize_t i = 0; rising && i < count(); ++i) rising = at[i] <= at[i + 1];
    if (!rising) throw py::value_error("begin must rise from 0 to the number of features given");
    for (py::ssize_t i = 0; i < feature_.size(); ++i)
      if (feature_.data()[i] < 0 || feature_.data()[i] >= features)
        throw py::value_error("feature must be in 0 .. " + std::to_string(features - 1) + ", got " +
                              std::to_string(feature_.data()[i]));
    examples_ = {begin_.data(), feature_.data(), value_.data(), target_.data(),
                 weight.is_none() ? nullptr : weight_.data()};
  }

  py::ssize_t count() const { return begin_.size() - 1; }
  std::int32_t features() const { return features_; }
  const Examples& examples() const { return examples_; }

 private:
  Array<std::int64_t> begin_;
  Array<std::int32_t> feature_;
  Array<float> value_, target_, weight_;
  std::int32_t features_;
  Examples examples_;
};

class FactorMachine {
 public:
  FactorMachine(const py::object& v, const py::object& heads, const py::object& intercept, int rank, float l2,
                float l2_linear, bool adagrad)
      : v_(taken<float>(v, "v", -1)),
        heads_(taken<float>(heads, "heads", v_.ndim() == 2 ? 4 * v_.shape(0) : 0)),
        intercept_(intercept.is_none() ? Array<float>() : taken<float>(intercept, "intercept", 1)) {
    if (v_.ndim() != 2 || v_.shape(1) % line || v_.shape(1) < line || v_.shape(1) > line * most_lines)
      throw py::value_error("v must be a table whose length is a multiple of 16 up to 128");
    if (rank < 1 || rank > v_.shape(1)) throw py::value_error("rank must be in 1 .. the rows' length");
    machine_ = {const_cast<float*>(v_.data()),
                reinterpret_cast<Head*>(const_cast<float*>(heads_.data())),
                intercept.is_none() ? nullptr : const_cast<float*>(intercept_.data()),
                static_cast<int>(v_.shape(1)) / line,
                rank,
                0,
                l2,
                l2_linear,
                adagrad};
  }

  // What only scores may be read-only.
  double learn(const SparseExamples& examples, const std::string& loss, float rate, int threads,
               std::uint64_t seed, std::uint64_t epoch, const std::string& set) const {
    check(examples, threads);
    if (!v_.writeable() || !heads_.writeable() || (machine_.intercept && !intercept_.writeable()))
      throw py::value_error("v, heads and intercept must be writeable");
    if (loss != "squared" && loss != "logistic")
      throw py::value_error("loss must be 'squared' or 'logistic', got '" + loss + "'");
    const Learn learn = chosen(set).learn[loss == "squared" ? squared : logistic][machine_.lines - 1];
    Machine machine = machine_;
    machine.rate = rate;
    return loosestep::bind::interruptible([&](auto stop) {
      return learn_all(machine, examples.examples(), examples.count(), learn, threads,
                       loosestep::models::Random(seed, epoch), stop);
    });
  }

  Array<float> score(const SparseExamples& examples, int threads, const std::string& set) const {
    check(examples, threads);
    Array<float> out(examples.count());
    float* const at = out.mutable_data();
    std::vector<std::uint32_t> order(static_cast<std::size_t>((examples.count() + chunk - 1) / chunk));
    std::iota(order.begin(), order.end(), 0u);
    const Score score = chosen(set).score[machine_.lines - 1];
    loosestep::bind::interruptible([&](auto stop) {
      over_chunks(
          order, examples.count(), threads,
          [&](int, std::int64_t begin, std::int64_t end) {
            score(machine_, examples.examples(), begin, end, at);
          },
          stop);
      return 0.0;
    });
    return out;
  }

 private:
  void check(const SparseExamples& examples, int threads) const {
    if (examples.features() != v_.shape(0))
      throw py::value_error("examples must have " + std::to_string(v_.shape(0)) + " features, got " +
                            std::to_string(examples.features()));
    if (threads < 1) throw py::value_error("threads must be at least 1, got " + std::to_string(threads));
  }

  static const Machines& chosen(const std::string& set) {
    if (set == "atomic") return atomic_machines;
    return machines(set.empty() ? loosestep::available().begin[0]->name : set.c_str());
  }

  Array<float> v_, heads_, intercept_;
  Machine machine_;
};

}  // namespace

void bind_machines(py::module_& m) {
  py::class_<SparseExamples>(m, "SparseExamples", "CSR rows, and what is to be learned of each.")
      .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&,
                    const py::object&, std::int32_t>(),
           "begin"_a, "feature"_a, "value"_a, "target"_a, "weight"_a, "features"_a);
  py::class_<FactorMachine>(m, "FactorMachine",
                            "A factorization machine; learning moves its arrays in place.")
      .def(py::init<const py::object&, const py::object&, const py::object&, int, float, float, bool>(),
           "v"_a, "heads"_a, "intercept"_a, "rank"_a, "l2"_a, "l2_linear"_a, "adagrad"_a)
      .def("learn", &FactorMachine::learn, "examples"_a, "loss"_a, "rate"_a, "threads"_a = 1, "seed"_a = 0,
           "epoch"_a = 0, "isa"_a = "", "One epoch; the sum of the losses, each before it was learned.")
      .def("score", &FactorMachine::score, "examples"_a, "threads"_a = 1, "isa"_a = "", "Every example's p.");
}
