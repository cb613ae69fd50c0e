// Long native work, without the GIL but to look for signals: Ctrl-C ends it.
#pragma once

#include <pybind11/pybind11.h>

namespace loosestep::bind {

// work(stop) -> double; raises what a signal's handler raised.
template <class Work> double interruptible(Work work) {
  bool raised = false;
  const auto stop = [&raised] {
    const pybind11::gil_scoped_acquire held;
    return raised = raised || PyErr_CheckSignals() != 0;
  };
  double result;
  {
    const pybind11::gil_scoped_release released;
    result = work(stop);
  }
  if (raised) throw pybind11::error_already_set();
  return result;
}

}  // namespace loosestep::bind
