// The table of contents of loosestep._core: one line a group, no loop and no formula here.
#include <pybind11/pybind11.h>

PYBIND11_MODULE(_core, m) {
  m.doc() = "loosestep's native core";
}
