// The table of contents of loosestep._core: one line a group, no loop and no formula here.
#include <pybind11/pybind11.h>

namespace py = pybind11;

void bind_ops(py::module_& m);        // elementwise rules and reductions over flat buffers
void bind_shared(py::module_& m);     // what workers share: Team (collectives), Center (elastic center)
void bind_host(py::module_& m);       // what processes share: Host (collectives), HostCenter
void bind_pulse(py::module_& m);      // the heartbeat between hosts
void bind_simulated(py::module_& m);  // the simulator's Calendar and Mail
void bind_sparse(py::module_& m);     // sparse linear models: SparseRows, LinearModel
void bind_factors(py::module_& m);    // matrix factorization: RatingGrid, Factors, Rotation
void bind_machines(py::module_& m);   // factorization machines: SparseExamples, FactorMachine
void bind_reading(py::module_& m);    // files of sparse rows: SparseFile32, SparseFile64

PYBIND11_MODULE(_core, m) {
  m.doc() = "loosestep's native core";
  bind_ops(m);
  bind_shared(m);
#if defined(__linux__)
  bind_host(m);
  bind_pulse(m);
#endif
  bind_simulated(m);
  bind_sparse(m);
  bind_factors(m);
  bind_machines(m);
  bind_reading(m);
}
