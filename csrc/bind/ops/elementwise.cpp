// Every rule as a built-in function, for each instruction set.
#include "bind/ops/arguments.hpp"
#include "bind/ops/parallel_for.hpp"
#include "bind/ops/registry.hpp"
#include "cpu/each.hpp"

namespace loosestep {
namespace {

using Rules = std::vector<Signature>;

template <template <class> class... R> Rules signatures(const std::string& prefix, List<R...>) {
  return {Signature(prefix + R<float>::name, R<float>::parameters, Arguments<R<float>>::count,
                    Arguments<R<float>>::written())...};
}

PyObject* call(const Signature& signature, const Kernel* kernels, ArgVector args, Py_ssize_t count,
               PyObject* keywords) {
  PyObject* bound_args[max_arguments];
  FlatBuffer buffers[max_arguments];
  double scalars[max_arguments];
  bind_arguments(signature, args, count, keywords, bound_args, static_cast<int>(signature.names.size()));
  if (on_device(bound_args, signature.buffers)) return run_on_device(signature, bound_args);
  read_buffers(signature, bound_args, buffers);
  read_scalars(signature, bound_args + signature.buffers, scalars);
  const Kernel kernel = kernels[buffers[0].dtype];
  parallel_for(signature, buffers, [&](void* const* data, std::size_t begin, std::size_t end, bool large) {
    kernel(scalars, data, begin, end, large);
  });
  Py_RETURN_NONE;
}

}  // namespace

const Rules& rule_signatures() {
  static const Rules rules = signatures("", Elementwise{});
  return rules;
}

std::size_t rule_of(const std::string& op) {
  for (std::size_t i = 0; i < rule_signatures().size(); ++i)
    if (rule_signatures()[i].op == op) return i;
  throw py::value_error("op must be the name of a rule, got '" + op + "'");
}

namespace {

const Rules& shared(const Updates& updates) {
  static const Rules rules[] = {signatures("exact.", Shared{}), signatures("racy.", Shared{})};
  return rules[&updates == &racy];
}

// A C function for each rule and instruction set (0 is the best): a built-in function of Python holds nothing
// but its module, so the rest is in the type.
template <std::size_t Rule, std::size_t Set>
PyObject* elementwise_function(PyObject*, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  static const Table& table = *available().begin[Set];
  static const Signature& signature = rule_signatures()[Rule];
  return translate_exceptions([&] { return call(signature, table.rules[Rule], args, count, keywords); });
}

template <std::size_t Rule, const Updates& updates>
PyObject* shared_function(PyObject*, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  static const Signature& signature = shared(updates)[Rule];
  return translate_exceptions([&] { return call(signature, updates.rules[Rule], args, count, keywords); });
}

PyObject* load_function(PyObject*, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  static const Signature signature("load", "shared, out", 2, 2);
  return translate_exceptions([&] { return call(signature, load, args, count, keywords); });
}

template <std::size_t Set, std::size_t... Rule> void add_rules(py::module_& m, std::index_sequence<Rule...>) {
  (add_function(m, rule_signatures()[Rule], elementwise_function<Rule, Set>), ...);
}

template <const Updates& updates, std::size_t... Rule>
void add_shared(py::module_& parent, std::index_sequence<Rule...>) {
  py::module_ m = parent.def_submodule(updates.name);
  (add_function(m, shared(updates)[Rule], shared_function<Rule, updates>), ...);
}

}  // namespace

void add_elementwise(py::module_& m, std::size_t set) {
  with_set(set, [&](auto number) { add_rules<number()>(m, std::make_index_sequence<Elementwise::size>{}); });
}

void add_updates(py::module_& m) {
  add_shared<exact>(m, std::make_index_sequence<Shared::size>{});
  add_shared<racy>(m, std::make_index_sequence<Shared::size>{});
  add_function(m, "load", ", shared, out", load_function);
}

}  // namespace loosestep

void bind_ops(pybind11::module_& m) {
  using namespace loosestep;
  set_owner_thread();
  find_numpy_types();
  add_elementwise(m, 0);
  add_reductions(m, 0);
  add_noisy(m, 0);
  add_replicas(m, 0);
  add_updates(m);
  add_info(m);
  add_descriptions(m);
  add_memory(m);
  add_streams(m);
}
