// The instruction sets and threads of this machine, and built-in functions with docstrings from Python.
#include <map>
#include <mutex>

#include "bind/ops/registry.hpp"
#include "cpu/threads.hpp"

namespace loosestep {
namespace {

struct Definition {
  std::string name, text;
  PyMethodDef method;
};

// Return the definitions of all functions. They are never destroyed: functions live as long as the process.
std::map<PyObject*, Definition*>& definitions() {
  static auto* const all = new std::map<PyObject*, Definition*>;
  return *all;
}

// Set the signature and the docstring of a built-in function.
void document(const py::object& function, const std::string& signature, const std::string& text) {
  static std::mutex mutex;  // imports may run in several threads
  const std::lock_guard lock(mutex);
  const auto found = definitions().find(function.ptr());
  if (found == definitions().end()) throw py::type_error("document: not an op of this module");
  Definition& definition = *found->second;
  definition.text = definition.name + signature + "\n--\n\n" + text;
  definition.method.ml_doc = definition.text.c_str();
}

py::list instruction_sets() {
  py::list names;
  for (std::size_t i = 0; i < available().count; ++i) names.append(available().begin[i]->name);
  return names;
}

py::object isa(const py::module_& m, const std::string& name) {
  for (const auto& each : instruction_sets())
    if (each.cast<std::string>() == name) return m.attr(name.c_str());
  throw py::value_error("isa must be one of " + py::str(instruction_sets()).cast<std::string>() + ", got '" +
                        name + "'");
}

void change_threads(int n) {
  if (n < 1) throw py::value_error("threads must be at least 1, got " + std::to_string(n));
  set_threads(n);
}

py::dict info() {
  using namespace py::literals;
  return py::dict("isa"_a = available().begin[0]->name, "isas"_a = instruction_sets(),
                  "threads"_a = threads(), "cores"_a = cores(), "openmp"_a = has_openmp());
}

void add_instruction_sets(py::module_& m) {
  for (std::size_t i = 0; i < available().count; ++i) {
    py::module_ set =
        m.def_submodule(available().begin[i]->name, "The ops in one instruction set, for tests.");
    add_elementwise(set, i);
    add_reductions(set, i);
    add_noisy(set, i);
    add_replicas(set, i);
  }
}

}  // namespace

void add_function(py::module_& m, const std::string& name, const std::string& parameters, Function function) {
  auto* const d = new Definition{name, name + "($module" + parameters + ")\n--\n\n", {}};
  d->method.ml_name = d->name.c_str();
  d->method.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
  d->method.ml_flags = METH_FASTCALL | METH_KEYWORDS;
  d->method.ml_doc = d->text.c_str();
  auto built = py::reinterpret_steal<py::object>(
      PyCFunction_NewEx(&d->method, m.ptr(), py::object(m.attr("__name__")).ptr()));
  if (!built) throw py::error_already_set();
  definitions()[built.ptr()] = d;
  m.add_object(name.c_str(), built);
}

void add_function(py::module_& m, const Signature& signature, Function function) {
  std::string parameters;
  for (const auto& each : signature.names) parameters += ", " + each;
  add_function(m, signature.op.substr(signature.op.find('.') + 1), parameters, function);
}

void add_info(py::module_& m) {
  add_instruction_sets(m);
  m.def("isas", &instruction_sets, "Instruction sets that this processor runs, best first.");
  m.def(
      "isa", [m](const std::string& name) { return isa(m, name); }, py::arg("name"),
      "The ops in one instruction set.");
  m.def("threads", &threads, "Threads that a large call uses.");
  m.def("set_threads", &change_threads, py::arg("n"));
  m.def("info", &info, "What was chosen on this machine.");
  m.def("document", &document, py::arg("function"), py::arg("signature"), py::arg("text"),
        "Gives an op the signature and the text of its specification.");
}

}  // namespace loosestep
