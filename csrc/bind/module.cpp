// The module loosestep._core: one line for each group of bindings.
#include <pybind11/pybind11.h>

namespace py = pybind11;

void bind_ops(py::module_& m);        // elementwise rules and reductions on flat buffers
void bind_shared(py::module_& m);     // between threads: Team (collectives), Center
void bind_shm(py::module_& m);        // between processes: Host (collectives), HostCenter
void bind_heartbeat(py::module_& m);  // the heartbeat between hosts
void bind_simulated(py::module_& m);  // the simulator: Calendar and Mail
void bind_replay(py::module_& m);     // ... its Network, and what replays recorded workers
void bind_linear(py::module_& m);     // sparse linear models: SparseRows, LinearModel
void bind_mf(py::module_& m);         // matrix factorization: RatingGrid, Factors, Rotation
void bind_fm(py::module_& m);         // factorization machines: SparseExamples, FactorMachine
void bind_codecs(py::module_& m);     // wire formats
void bind_svmlight(py::module_& m);   // files of sparse rows: SparseFile32, SparseFile64

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.doc() = "loosestep's native core";
  bind_ops(m);
  bind_shared(m);
#if defined(__linux__)
  bind_shm(m);
  bind_heartbeat(m);
#endif
  bind_replay(m);
  bind_simulated(m);
  bind_linear(m);
  bind_mf(m);
  bind_fm(m);
  bind_svmlight(m);
  bind_codecs(m);
}
