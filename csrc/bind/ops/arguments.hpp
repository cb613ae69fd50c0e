// Reads the arguments of an op: checks all of them and converts none. Ops are called by CPython's vectorcall
// protocol, since on small buffers the call is the cost of an op.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "cpu/kernels.hpp"

namespace loosestep {

namespace py = pybind11;

constexpr int max_arguments = 10;
// bytes: for less, releasing the GIL (0.1 us) does not pay
constexpr std::size_t release_min_bytes = 256 << 10;

// The parameters of an op: buffers first, then scalars.
struct Signature {
  Signature(std::string op, const char* parameters, int buffers, unsigned written);
  bool is_written(int i) const { return written >> i & 1; }

  std::string op;                  // as error messages name it
  std::vector<std::string> names;  // of the parameters
  int buffers;                     // of the parameters are buffers
  unsigned written;                // bit i: the op writes buffer i
};

// A contiguous buffer of known type.
struct FlatBuffer {
  void* data;
  std::size_t n;
  Dtype dtype;
  std::size_t item() const { return dtype == float32 ? 4 : 8; }
  std::size_t bytes() const { return n * item(); }
};

using ArgVector = PyObject* const*;

// Look up numpy's types. Called at import, so that no thread waits for another one that runs Python code to
// look them up.
void find_numpy_types();
// Assign positional and keyword arguments to the parameters. TypeError where one of the first `required` is
// missing.
void bind_arguments(const Signature& signature, ArgVector args, Py_ssize_t count, PyObject* keywords,
                    PyObject** bound_args, int required);
// Return a contiguous array as a buffer. With `other`, whose name is `like`, it must have the same type and
// length.
FlatBuffer flat_buffer(const std::string& op, const std::string& name, PyObject* given, bool written,
                       const FlatBuffer* other = nullptr, const char* like = nullptr);
// Read the buffers of an op. All must have the type and length of the first, and none may overlap one that is
// written.
void read_buffers(const Signature& signature, PyObject** bound_args, FlatBuffer* buffers);
double number(const std::string& op, const std::string& name, PyObject* given);
// Return a whole number from 0 to `most`.
unsigned long long integer(const std::string& op, const std::string& name, PyObject* given,
                           unsigned long long most);
// Read the scalars of an op; a `step` must be at least 1.
void read_scalars(const Signature& signature, ArgVector given, double* scalars);
// Return whether a buffer is of a type that can be on a GPU: then the op is done in Python.
bool on_device(ArgVector given, int count);
PyObject* run_on_device(const Signature& signature, ArgVector given);
bool overlap(const FlatBuffer& a, const FlatBuffer& b);
// Refuse buffers that overlap if one is written; `out` may be the same as one that is read.
void no_overlap(const Signature& signature, const FlatBuffer* buffers, int count);
[[noreturn]] void raise_error(PyObject* type, const std::string& text);

// Releases the GIL if the work is large.
class ReleaseGilIfLarge {
 public:
  explicit ReleaseGilIfLarge(std::size_t bytes)
      : state(bytes >= release_min_bytes ? PyEval_SaveThread() : nullptr) {}
  ~ReleaseGilIfLarge() {
    if (state != nullptr) PyEval_RestoreThread(state);
  }
  ReleaseGilIfLarge(const ReleaseGilIfLarge&) = delete;
  ReleaseGilIfLarge& operator=(const ReleaseGilIfLarge&) = delete;

 private:
  PyThreadState* state;
};

// Call f and translate C++ exceptions to Python's.
template <class F> PyObject* translate_exceptions(F&& f) {
  try {
    return f();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// The signature of METH_FASTCALL | METH_KEYWORDS.
using Function = PyObject* (*)(PyObject* self, ArgVector args, Py_ssize_t count, PyObject* keywords);
// Add a built-in function to the module. `document` can set its docstring later.
void add_function(py::module_& m, const std::string& name, const std::string& parameters, Function function);
void add_function(py::module_& m, const Signature& signature, Function function);

}  // namespace loosestep
