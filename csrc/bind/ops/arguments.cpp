#include "bind/ops/arguments.hpp"

#include <sstream>

namespace loosestep {
namespace {

constexpr int c_contiguous = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_;
constexpr int aligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
constexpr int writable = py::detail::npy_api::NPY_ARRAY_WRITEABLE_;

const char* const type_names[] = {"float32", "float64"};

std::vector<std::string> split(const char* parameters) {
  std::vector<std::string> names;
  std::istringstream text(parameters);
  for (std::string name; std::getline(text >> std::ws, name, ',');) names.push_back(name);
  return names;
}

bool is_array(PyObject* given) {
  static PyTypeObject* const type = py::detail::npy_api::get().PyArray_Type_;
  return Py_TYPE(given) == type || PyType_IsSubtype(Py_TYPE(given), type);
}

const py::detail::PyArray_Proxy* array(PyObject* given) { return py::detail::array_proxy(given); }

// The two dtypes are singletons; a copy (from a pickle) is compared by value.
int dtype_of(PyObject* descriptor) {
  static PyObject* const singles[] = {py::dtype::of<float>().release().ptr(),
                                      py::dtype::of<double>().release().ptr()};
  for (int i = 0; i < dtypes; ++i)
    if (descriptor == singles[i] || PyObject_RichCompareBool(descriptor, singles[i], Py_EQ) == 1) return i;
  PyErr_Clear();
  return -1;
}

std::size_t size_of(const py::detail::PyArray_Proxy* a) {
  std::size_t n = 1;
  for (int i = 0; i < a->nd; ++i) n *= static_cast<std::size_t>(a->dimensions[i]);
  return n;
}

std::string text_of(PyObject* object) { return py::str(py::handle(object)); }

std::string type_of(PyObject* given) {
  return is_array(given) ? text_of(array(given)->descr) : Py_TYPE(given)->tp_name;
}

std::string layout_of(PyObject* given) {
  const auto* a = array(given);
  const char* const how = !(a->flags & c_contiguous) ? "a strided "
                          : !(a->flags & aligned)    ? "an unaligned "
                                                     : "a read-only ";
  return how + type_of(given) + " array";
}

std::string expected(bool written, const FlatBuffer* other, const char* like) {
  const std::string type = other ? type_names[other->dtype] : "float32 or float64";
  const std::string how = written ? "a writable contiguous " : "a contiguous ";
  return how + type + " array" + (other ? std::string(" like ") + like : "");
}

[[noreturn]] void raise_argument_error(PyObject* error, const std::string& op, const std::string& name,
                                       const std::string& want, const std::string& got) {
  raise_error(error, op + ": " + name + " must " + want + ", got " + got);
}

[[noreturn]] void raise_length_error(const std::string& op, const std::string& name, std::size_t want,
                                     const char* like, std::size_t got) {
  raise_argument_error(
      PyExc_ValueError, op, name,
      "have " + std::to_string(want) + (want == 1 ? " element like " : " elements like ") + like,
      std::to_string(got));
}

int position(const Signature& signature, PyObject* keyword) {
  for (std::size_t i = 0; i < signature.names.size(); ++i)
    if (PyUnicode_CompareWithASCIIString(keyword, signature.names[i].c_str()) == 0)
      return static_cast<int>(i);
  raise_error(PyExc_TypeError, signature.op + ": unknown argument " + text_of(keyword));
}

void bind_keywords(const Signature& signature, ArgVector values, PyObject* keywords, PyObject** bound_args) {
  for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(keywords); ++k) {
    const int i = position(signature, PyTuple_GET_ITEM(keywords, k));
    if (bound_args[i])
      raise_error(PyExc_TypeError, signature.op + ": " + signature.names[i] + " was given twice");
    bound_args[i] = values[k];
  }
}

bool may_be_same(const Signature& signature, const FlatBuffer* buffers, int i, int j) {
  return buffers[i].data == buffers[j].data && (signature.names[i] == "out" || signature.names[j] == "out");
}

}  // namespace

Signature::Signature(std::string op, const char* parameters, int buffers, unsigned written)
    : op(std::move(op)), names(split(parameters)), buffers(buffers), written(written) {}

void find_numpy_types() {
  is_array(Py_None);
  dtype_of(Py_None);
}

void raise_error(PyObject* type, const std::string& text) {
  PyErr_SetString(type, text.c_str());
  throw py::error_already_set();
}

void bind_arguments(const Signature& signature, ArgVector args, Py_ssize_t count, PyObject* keywords,
                    PyObject** bound_args, int required) {
  const auto parameters = static_cast<Py_ssize_t>(signature.names.size());
  if (count > parameters)
    raise_error(PyExc_TypeError, signature.op + ": takes " + std::to_string(parameters) + " arguments, got " +
                                     std::to_string(count));
  for (Py_ssize_t i = 0; i < parameters; ++i) bound_args[i] = i < count ? args[i] : nullptr;
  if (keywords) bind_keywords(signature, args + count, keywords, bound_args);
  for (int i = 0; i < required; ++i)
    if (!bound_args[i])
      raise_error(PyExc_TypeError, signature.op + ": " + signature.names[i] + " is missing");
}

FlatBuffer flat_buffer(const std::string& op, const std::string& name, PyObject* given, bool written,
                       const FlatBuffer* other, const char* like) {
  const int must = c_contiguous | aligned | (written ? writable : 0);
  const auto* a = array(given);
  const int dtype = is_array(given) ? dtype_of(a->descr) : -1;
  if (dtype < 0 || (other && dtype != other->dtype))
    raise_argument_error(PyExc_TypeError, op, name, "be " + expected(written, other, like), type_of(given));
  if ((a->flags & must) != must)
    raise_argument_error(PyExc_ValueError, op, name, "be " + expected(written, other, like),
                         layout_of(given));
  const FlatBuffer buffer{a->data, size_of(a), static_cast<Dtype>(dtype)};
  if (other && buffer.n != other->n) raise_length_error(op, name, other->n, like, buffer.n);
  return buffer;
}

void read_buffers(const Signature& s, PyObject** bound_args, FlatBuffer* buffers) {
  for (int i = 0; i < s.buffers; ++i)
    buffers[i] = flat_buffer(s.op, s.names[i], bound_args[i], s.is_written(i), i ? buffers : nullptr,
                             s.names[0].c_str());
  no_overlap(s, buffers, s.buffers);
}

double number(const std::string& op, const std::string& name, PyObject* given) {
  if (PyFloat_CheckExact(given)) return PyFloat_AS_DOUBLE(given);
  const auto* methods = Py_TYPE(given)->tp_as_number;
  const bool numeric = !is_array(given) && methods && (methods->nb_float || methods->nb_index);
  if (!numeric) raise_argument_error(PyExc_TypeError, op, name, "be a number", type_of(given));
  const double value = PyFloat_AsDouble(given);
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  return value;
}

unsigned long long integer(const std::string& op, const std::string& name, PyObject* given,
                           unsigned long long most) {
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(given));
  PyErr_Clear();
  const std::string want = "be a whole number from 0 to " + std::to_string(most);
  if (!index) raise_argument_error(PyExc_TypeError, op, name, want, type_of(given));
  const unsigned long long value = PyLong_AsUnsignedLongLong(index.ptr());
  const bool outside = PyErr_Occurred() || value > most;
  PyErr_Clear();
  if (outside) raise_argument_error(PyExc_ValueError, op, name, want, text_of(index.ptr()));
  return value;
}

void read_scalars(const Signature& s, ArgVector given, double* scalars) {
  const int count = static_cast<int>(s.names.size()) - s.buffers;
  for (int i = 0; i < count; ++i)
    scalars[i] = number(s.op, s.names[static_cast<std::size_t>(s.buffers + i)], given[i]);
  if (count > 0 && s.names.back() == "step" && !(scalars[count - 1] >= 1))
    raise_error(PyExc_ValueError,
                s.op + ": step must be at least 1, got " + std::to_string(scalars[count - 1]));
}

bool on_device(ArgVector given, int count) {
  for (int i = 0; i < count; ++i)
    if (!is_array(given[i]) &&
        PyObject_HasAttrString(reinterpret_cast<PyObject*>(Py_TYPE(given[i])), "__cuda_array_interface__"))
      return true;
  return false;
}

PyObject* run_on_device(const Signature& signature, ArgVector given) {
  py::tuple arguments(signature.names.size());
  for (std::size_t i = 0; i < signature.names.size(); ++i)
    arguments[i] = given[i] ? py::handle(given[i]) : py::none();
  return py::module_::import("loosestep.cuda").attr("run")(signature.op, arguments).release().ptr();
}

bool overlap(const FlatBuffer& a, const FlatBuffer& b) {
  const char *x = static_cast<const char*>(a.data), *y = static_cast<const char*>(b.data);
  return x < y + b.bytes() && y < x + a.bytes();
}

void no_overlap(const Signature& signature, const FlatBuffer* buffers, int count) {
  for (int i = 0; i < count; ++i)
    for (int j = 0; j < i; ++j)
      if ((signature.is_written(i) || signature.is_written(j)) && overlap(buffers[i], buffers[j]) &&
          !may_be_same(signature, buffers, i, j))
        raise_error(PyExc_ValueError, signature.op + ": " + signature.names[j] + " and " +
                                          signature.names[i] + " must not overlap");
}

}  // namespace loosestep
