// From Python objects to addresses and numbers: checks everything, converts nothing, and says what was wrong.
// Called through CPython's vector call: on small buffers the call is the cost of an op.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "cpu/kernels.hpp"

namespace loosestep {

namespace py = pybind11;

constexpr int max_arguments = 10;
constexpr std::size_t release_min_bytes = 256 << 10;  // bytes: below, giving up the GIL (0.1 us) is no gain

// What a call needs to know about an op. Buffers come first, then scalars.
struct Signature {
  Signature(std::string op, const char* parameters, int buffers, unsigned written);
  bool is_written(int i) const { return written >> i & 1; }

  std::string op;                  // as an error names it
  std::vector<std::string> names;  // of its parameters
  int buffers;                     // how many of them are buffers
  unsigned written;                // bit i: buffer i is written
};

// A flat buffer of known type.
struct FlatBuffer {
  void* data;
  std::size_t n;
  Dtype dtype;
  std::size_t item() const { return dtype == float32 ? 4 : 8; }
  std::size_t bytes() const { return n * item(); }
};

using ArgVector = PyObject* const*;

// Puts positional and keyword arguments where their parameters are; `least` of them must be there.
void bind_arguments(const Signature& signature, ArgVector args, Py_ssize_t count, PyObject* keywords,
                    PyObject** bound_args, int required);
// A contiguous array of either type, or one like `other` (whose name is `like`).
FlatBuffer flat_buffer(const std::string& op, const std::string& name, PyObject* given, bool written,
                       const FlatBuffer* other = nullptr, const char* like = nullptr);
// The buffers of an op, each of the first one's type and length, none overlapping one that is written.
void read_buffers(const Signature& signature, PyObject** bound_args, FlatBuffer* buffers);
double number(const std::string& op, const std::string& name, PyObject* given);
// A whole number from 0 to `most`.
unsigned long long integer(const std::string& op, const std::string& name, PyObject* given,
                           unsigned long long most);
// All of an op's numbers, checked; a `step` is at least 1.
void read_scalars(const Signature& signature, ArgVector given, double* scalars);
// Whether one of the buffers is of a type that lives on a card (a tensor may); then Python has the op.
bool on_device(ArgVector given, int count);
PyObject* run_on_device(const Signature& signature, ArgVector given);
bool overlap(const FlatBuffer& a, const FlatBuffer& b);
// Refuses buffers of which one is written and overlaps the other; an `out` may coincide with a read one.
void no_overlap(const Signature& signature, const FlatBuffer* buffers, int count);
[[noreturn]] void raise_error(PyObject* type, const std::string& text);

// The GIL, given up where the work is worth it.
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

// The edge of C++: an exception becomes Python's.
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

// CPython's METH_FASTCALL | METH_KEYWORDS.
using Function = PyObject* (*)(PyObject* self, ArgVector args, Py_ssize_t count, PyObject* keywords);
// A built-in function of this module; its text can be set later by `document`.
void add_function(py::module_& m, const std::string& name, const std::string& parameters, Function function);
void add_function(py::module_& m, const Signature& signature, Function function);

}  // namespace loosestep
