// Runs long native work without the GIL, so that Ctrl-C ends it.
#pragma once

#include <pybind11/pybind11.h>

#include "bind/python/gil.hpp"

namespace loosestep::bind {

// Run pending signal handlers; return whether one raised an exception, which is then set. Only the calling
// thread's check sees Ctrl-C.
inline bool interrupted() {
  try {
    const pybind11::gil_scoped_acquire held;
    return PyErr_CheckSignals() != 0;
  } catch (...) {
    block_forever();
  }
}

// Return work(stop), or raise what a signal handler raised.
template <class Work> auto interruptible(Work work) {
  bool raised = false;
  const auto stop = [&raised] { return raised = raised || interrupted(); };
  auto result = [&] {
    const ReleaseGil released;
    return work(stop);
  }();
  if (raised) throw pybind11::error_already_set();
  return result;
}

}  // namespace loosestep::bind
