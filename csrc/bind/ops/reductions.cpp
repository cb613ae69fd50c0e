// Averages of several buffers, and reductions of one or two buffers to a number.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "bind/ops/registry.hpp"
#include "bind/ops/sequences.hpp"
#include "cpu/threads.hpp"

namespace loosestep {
namespace {

const Signature mean_signature("mean_of", "buffers, out, weights", 2, 2);
const Signature sum_signature("weighted_sum", "buffers, weights, out", 3, 4);
const Signature dot_signature("dot", "x, y", 2, 0);
const Signature norm_signature("norm", "x", 1, 0);
const Signature norms_signature("norms", "x, starts", 1, 0);
const Signature finite_signature("all_finite", "x", 1, 0);

struct Inputs {
  py::tuple held;
  std::vector<FlatBuffer> buffers;
  FlatBuffer out;
};

Inputs inputs(const Signature& s, PyObject* buffers, PyObject* out) {
  Inputs all{as_tuple(s, 0, buffers), {}, flat_buffer(s.op, "out", out, true)};
  if (all.held.empty()) raise_error(PyExc_ValueError, s.op + ": buffers must hold at least 1 array, got 0");
  for (std::size_t i = 0; i < all.held.size(); ++i)
    all.buffers.push_back(
        flat_buffer(s.op, "buffers[" + std::to_string(i) + "]", all.held[i].ptr(), false, &all.out, "out"));
  return all;
}

// Check that `out` overlaps no buffer, except that it may be one of them if `same`.
void check_out(const std::string& op, const Inputs& all, bool same) {
  for (std::size_t i = 0; i < all.buffers.size(); ++i)
    if (overlap(all.buffers[i], all.out) && !(same && all.buffers[i].data == all.out.data))
      raise_error(PyExc_ValueError, op + ": buffers[" + std::to_string(i) + "] and out must not overlap");
}

std::vector<double> numbers(const Signature& s, int argument, PyObject* given, std::size_t count) {
  const py::tuple values = as_tuple(s, argument, given);
  if (values.size() != count)
    raise_error(PyExc_ValueError, s.op + ": weights must be " + std::to_string(count) +
                                      ", one for each buffer, got " + std::to_string(values.size()));
  std::vector<double> all;
  for (std::size_t i = 0; i < count; ++i)
    all.push_back(number(s.op, "weights[" + std::to_string(i) + "]", values[i].ptr()));
  return all;
}

void check_mean_weights(const std::vector<double>& weights) {
  double sum = 0;
  for (double weight : weights) {
    if (!(weight >= 0) || std::isinf(weight))
      raise_error(PyExc_ValueError,
                  "mean_of: weights must be finite and at least 0, got " + std::to_string(weight));
    sum += weight;
  }
  if (sum == 0) raise_error(PyExc_ValueError, "mean_of: weights must not all be 0");
}

bool all_equal(const std::vector<double>& values) {
  for (double value : values)
    if (value != values[0]) return false;
  return true;
}

void run(const Table& table, const std::vector<const void*>& buffers, const std::vector<double>* weights,
         double divisor, const FlatBuffer& out) {
  const std::size_t bytes = out.bytes() * (buffers.size() + 1);
  const bool apart = std::find(buffers.begin(), buffers.end(), out.data) == buffers.end();
  const Fold job{buffers.data(), weights ? weights->data() : nullptr, buffers.size(), divisor,
                 out.data,       apart && bytes >= large_from};
  const ReleaseGilIfLarge released(bytes);
  parallel(out.n, block, bytes,
           [&](std::size_t begin, std::size_t end) { table.fold[out.dtype](job, begin, end); });
}

std::vector<const void*> addresses(const Inputs& all) {
  std::vector<const void*> data;
  for (const FlatBuffer& buffer : all.buffers) data.push_back(buffer.data);
  return data;
}

void plain_mean(const Table& table, const Inputs& all) {
  run(table, addresses(all), nullptr, static_cast<double>(all.buffers.size()), all.out);
}

// Average the buffers whose weight is not 0; the others are not read.
void weighted_mean(const Table& table, const Inputs& all, const std::vector<double>& weights) {
  std::vector<const void*> data;
  std::vector<double> positive;
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    data.push_back(all.buffers[i].data);
    positive.push_back(weights[i]);
    sum += weights[i];
  }
  run(table, data, &positive, sum, all.out);
}

PyObject* mean_of(const Table& table, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  PyObject* bound_args[3];
  bind_arguments(mean_signature, args, count, keywords, bound_args, 2);
  if (on_device(bound_args + 1, 1)) return run_on_device(mean_signature, bound_args);
  const Inputs all = inputs(mean_signature, bound_args[0], bound_args[1]);
  check_out(mean_signature.op, all, true);
  if (!bound_args[2] || bound_args[2] == Py_None) {
    plain_mean(table, all);
    Py_RETURN_NONE;
  }
  const auto weights = numbers(mean_signature, 2, bound_args[2], all.buffers.size());
  check_mean_weights(weights);
  all_equal(weights) ? plain_mean(table, all) : weighted_mean(table, all, weights);
  Py_RETURN_NONE;
}

PyObject* weighted_sum(const Table& table, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  PyObject* bound_args[3];
  bind_arguments(sum_signature, args, count, keywords, bound_args, 3);
  if (on_device(bound_args + 2, 1)) return run_on_device(sum_signature, bound_args);
  const Inputs all = inputs(sum_signature, bound_args[0], bound_args[2]);
  check_out(sum_signature.op, all, false);
  const auto weights = numbers(sum_signature, 1, bound_args[1], all.buffers.size());
  run(table, addresses(all), &weights, 0, all.out);
  Py_RETURN_NONE;
}

double dot_of(const Table& table, const FlatBuffer& x, const FlatBuffer& y) {
  std::vector<double> sums((x.n + block - 1) / block);
  const ReleaseGilIfLarge released(2 * x.bytes());
  parallel(x.n, block, 2 * x.bytes(), [&](std::size_t begin, std::size_t end) {
    table.dot[x.dtype](x.data, y.data, sums.data(), begin, end);
  });
  return table.sum_of_sums(sums.data(), sums.size());
}

PyObject* dot(const Table& table, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  PyObject* bound_args[2];
  bind_arguments(dot_signature, args, count, keywords, bound_args, 2);
  if (on_device(bound_args, 2)) return run_on_device(dot_signature, bound_args);
  const FlatBuffer x = flat_buffer("dot", "x", bound_args[0], false),
                   y = flat_buffer("dot", "y", bound_args[1], false, &x, "x");
  return PyFloat_FromDouble(dot_of(table, x, y));
}

PyObject* norm(const Table& table, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  PyObject* bound_args[1];
  bind_arguments(norm_signature, args, count, keywords, bound_args, 1);
  if (on_device(bound_args, 1)) return run_on_device(norm_signature, bound_args);
  const FlatBuffer x = flat_buffer("norm", "x", bound_args[0], false);
  return PyFloat_FromDouble(std::sqrt(dot_of(table, x, x)));
}

// Return the bounds of the parts of a buffer, which must not decrease.
std::vector<std::size_t> bounds(PyObject* given, std::size_t n) {
  std::vector<std::size_t> starts;
  for (const auto& each : as_tuple(norms_signature, 1, given)) {
    const std::string name = "starts[" + std::to_string(starts.size()) + "]";
    starts.push_back(integer("norms", name, each.ptr(), n));
    if (starts.size() > 1 && starts.back() < starts[starts.size() - 2])
      raise_error(PyExc_ValueError, "norms: starts must not decrease, " + name + " does");
  }
  return starts;
}

PyObject* norms(const Table& table, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  PyObject* bound_args[2];
  bind_arguments(norms_signature, args, count, keywords, bound_args, 2);
  if (on_device(bound_args, 1)) return run_on_device(norms_signature, bound_args);
  const FlatBuffer x = flat_buffer("norms", "x", bound_args[0], false);
  const auto starts = bounds(bound_args[1], x.n);
  py::list all;
  for (std::size_t i = 1; i < starts.size(); ++i) {
    const FlatBuffer part{static_cast<char*>(x.data) + starts[i - 1] * x.item(), starts[i] - starts[i - 1],
                          x.dtype};
    all.append(std::sqrt(dot_of(table, part, part)));
  }
  return all.release().ptr();
}

bool is_finite(const Table& table, const FlatBuffer& x) {
  std::atomic<bool> finite{true};
  const ReleaseGilIfLarge released(x.bytes());
  parallel(x.n, block, x.bytes(), [&](std::size_t begin, std::size_t end) {
    if (!table.finite[x.dtype](x.data, begin, end)) finite.store(false, std::memory_order_relaxed);
  });
  return finite;
}

PyObject* all_finite(const Table& table, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  PyObject* bound_args[1];
  bind_arguments(finite_signature, args, count, keywords, bound_args, 1);
  if (on_device(bound_args, 1)) return run_on_device(finite_signature, bound_args);
  return PyBool_FromLong(is_finite(table, flat_buffer("all_finite", "x", bound_args[0], false)));
}

template <std::size_t Set> void add_all(py::module_& m) {
  add_function(m, "mean_of", ", buffers, out, weights=None", bound<Set, mean_of>);
  add_function(m, "weighted_sum", ", buffers, weights, out", bound<Set, weighted_sum>);
  add_function(m, "dot", ", x, y", bound<Set, dot>);
  add_function(m, "norm", ", x", bound<Set, norm>);
  add_function(m, "norms", ", x, starts", bound<Set, norms>);
  add_function(m, "all_finite", ", x", bound<Set, all_finite>);
}

}  // namespace

void add_reductions(py::module_& m, std::size_t set) {
  with_set(set, [&](auto number) { add_all<number()>(m); });
}

}  // namespace loosestep
