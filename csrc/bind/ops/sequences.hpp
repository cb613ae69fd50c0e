// Arguments that are sequences.
#pragma once
#include "bind/ops/arguments.hpp"

namespace loosestep {

// Return the elements of a list or tuple.
inline py::tuple as_tuple(const Signature& signature, int i, PyObject* given) {
  if (!PySequence_Check(given) || PyUnicode_Check(given))
    raise_error(PyExc_TypeError, signature.op + ": " + signature.names[static_cast<std::size_t>(i)] +
                                     " must be a sequence, got " + Py_TYPE(given)->tp_name);
  return py::reinterpret_steal<py::tuple>(PySequence_Tuple(given));
}

}  // namespace loosestep
