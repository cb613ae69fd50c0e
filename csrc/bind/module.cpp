// The table of contents of loosestep._core: one line a group, no loop and no formula here.
#include <pybind11/pybind11.h>

namespace py = pybind11;

void bind_ops(py::module_& m);        // elementwise rules and reductions over flat buffers
void bind_shared(py::module_& m);     // what workers share: Team (collectives), Center (elastic center)
void bind_host(py::module_& m);       // what processes share: Host (collectives), HostCenter
void bind_pulse(py::module_& m);      // the heartbeat between hosts
void bind_simulated(py::module_& m);  // the simulator's Calendar and Mail

PYBIND11_MODULE(_core, m) {
  m.doc() = "loosestep's native core";
  bind_ops(m);
  bind_shared(m);
#if defined(__linux__)
  bind_host(m);
  bind_pulse(m);
#endif
  bind_simulated(m);
}
