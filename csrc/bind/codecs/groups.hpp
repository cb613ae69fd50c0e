// The groups of functions that bind_codecs adds.
#pragma once
#include <pybind11/pybind11.h>

namespace loosestep::bind {

void add_sparse(pybind11::module_& m);  // some of the values, with their places
void add_thin(pybind11::module_& m);    // products with thin matrices, transforms of tiles

}  // namespace loosestep::bind
