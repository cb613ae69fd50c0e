// The rules as data for other implementations: their parameters, and their fields as computed from the
// scalars.
#include <pybind11/stl.h>

#include <cstring>

#include "bind/ops/registry.hpp"
#include "rules/arguments.hpp"

namespace loosestep {
namespace {

constexpr int most_bytes = 128;

// The bytes of a rule object, as a GPU kernel takes it by value. Padding is zero.
using Maker = std::size_t (*)(const double* scalars, char* bytes);

template <class R, class T> std::size_t fields_of(const double* scalars, char* bytes) {
  static_assert(sizeof(R) <= most_bytes && std::is_trivially_copyable_v<R>);
  const R rule = made<R, T>(scalars);
  std::memcpy(bytes, &rule, sizeof(R));
  return sizeof(R);
}

struct Makers {
  Maker of[dtypes];
};

template <template <class> class... R> std::vector<Makers> makers(List<R...>) {
  return {Makers{{fields_of<R<float>, float>, fields_of<R<double>, double>}}...};
}

py::bytes fields_bytes(const std::string& op, bool wide, const py::tuple& given) {
  static const std::vector<Makers> all = makers(Elementwise{});
  const std::size_t rule = rule_of(op);
  const Signature& signature = rule_signatures()[rule];
  if (given.size() != signature.names.size() - static_cast<std::size_t>(signature.buffers))
    throw py::value_error(op + ": scalars must have a number for each parameter, got " +
                          std::to_string(given.size()));
  double scalars[max_arguments];
  read_scalars(signature, reinterpret_cast<PyTupleObject*>(given.ptr())->ob_item, scalars);
  char bytes[most_bytes] = {};
  return {bytes, all[rule].of[wide](scalars, bytes)};
}

py::tuple signature(const std::string& op) {
  const Signature& found = rule_signatures()[rule_of(op)];
  return py::make_tuple(py::cast(found.names), found.buffers, found.written);
}

py::list names() {
  py::list all;
  for (const auto& each : rule_signatures()) all.append(each.op);
  return all;
}

}  // namespace

void add_descriptions(py::module_& parent) {
  py::module_ m = parent.def_submodule("rules", "The rules as data, for other implementations.");
  m.def("names", &names, "The names of all rules.");
  m.def("signature", &signature, py::arg("op"),
        "Names of the parameters, how many of them are buffers, and as bits which of those are written.");
  m.def("fields", &fields_bytes, py::arg("op"), py::arg("wide"), py::arg("scalars"),
        "The rule for these scalars, computing in float64 or float32, as bytes.");
}

}  // namespace loosestep
