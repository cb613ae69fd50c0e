// Reads numpy arrays: each is used in place or refused, never converted or copied.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <string>

#include "shared/collective_args.hpp"

namespace loosestep::bind {

namespace py = pybind11;
using shared::Dtype;

struct Array {
  void* data;
  std::size_t size;  // elements
  Dtype dtype;

  std::size_t bytes() const { return size * shared::bytes_of(dtype); }
};

inline const char* name_of(Dtype dtype) { return dtype == Dtype::float32 ? "float32" : "float64"; }

inline Dtype dtype_named(const std::string& name) {
  if (name == "float32") return Dtype::float32;
  if (name == "float64") return Dtype::float64;
  throw py::value_error("dtype must be 'float32' or 'float64', got '" + name + "'");
}

inline std::string type_name(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

[[noreturn]] inline void refuse_dtype(const char* argument, const std::string& got) {
  throw py::type_error(std::string(argument) + " must be a numpy array of float32 or float64, got " + got);
}

[[noreturn]] inline void refuse(const char* argument, const std::string& wanted) {
  throw py::value_error(std::string(argument) + " must be " + wanted);
}

inline Dtype dtype_of(const py::array& array, const char* argument) {
  if (py::isinstance<py::array_t<float>>(array)) return Dtype::float32;
  if (py::isinstance<py::array_t<double>>(array)) return Dtype::float64;
  refuse_dtype(argument, py::str(array.dtype()));
}

// Return an array that is only read.
inline Array readable_array(py::handle object, const char* argument) {
  if (!py::isinstance<py::array>(object)) refuse_dtype(argument, type_name(object));
  const auto array = py::reinterpret_borrow<py::array>(object);
  const Dtype dtype = dtype_of(array, argument);
  if (!(array.flags() & py::array::c_style)) refuse(argument, "C-contiguous, got a strided array");
  if (!(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) refuse(argument, "aligned in memory");
  return {const_cast<void*>(array.data()), static_cast<std::size_t>(array.size()), dtype};
}

inline Array writable_array(py::handle object, const char* argument) {
  const Array array = readable_array(object, argument);
  if (!py::reinterpret_borrow<py::array>(object).writeable())
    refuse(argument, "writable, got a read-only array");
  return array;
}

inline void require_dtype(const Array& array, const char* argument, Dtype wanted, const char* whose) {
  if (array.dtype == wanted) return;
  throw py::type_error(std::string(argument) + " must be " + name_of(wanted) + " like " + whose + ", got " +
                       name_of(array.dtype));
}

inline void require_size(const Array& array, const char* argument, std::size_t wanted, const char* why) {
  if (array.size == wanted) return;
  refuse(argument,
         "of " + std::to_string(wanted) + " elements (" + why + "), got " + std::to_string(array.size));
}

}  // namespace loosestep::bind
