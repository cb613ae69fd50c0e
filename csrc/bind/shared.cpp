#include <pybind11/pybind11.h>

void bind_shared(pybind11::module_&) {}
