// The groups of functions that bind_ops adds.
#pragma once
#include "bind/ops/arguments.hpp"

namespace loosestep {

const std::vector<Signature>& rule_signatures();  // of every rule, in the order of the kernels' table
std::size_t rule_of(const std::string& op);       // index in it; ValueError for an unknown rule

// rules, in instruction set number `set` (0 is the best)
void add_elementwise(py::module_& m, std::size_t set);
void add_reductions(py::module_& m, std::size_t set);  // mean_of, weighted_sum, dot, norm, norms, all_finite
void add_noisy(py::module_& m, std::size_t set);       // rules with noise
void add_replicas(py::module_& m, std::size_t set);    // elastic_all, mix
void add_updates(py::module_& m);                      // exact, racy, load
void add_info(py::module_& m);                         // threads, info, document
void add_descriptions(py::module_& m);                 // rules
void add_memory(py::module_& m);                       // allocate
void add_streams(py::module_& m);                      // streams

// Call f with the number of the set as a type.
template <class F> void with_set(std::size_t set, F&& f) {
  if (set == 0) f(std::integral_constant<std::size_t, 0>{});
  if (set == 1) f(std::integral_constant<std::size_t, 1>{});
  if (set == 2) f(std::integral_constant<std::size_t, 2>{});
}

// A function of a set's table with the signature that Python calls.
template <std::size_t Set, auto function>
PyObject* bound(PyObject*, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  static const Table& table = *available().begin[Set];
  return translate_exceptions([&] { return function(table, args, count, keywords); });
}

}  // namespace loosestep
