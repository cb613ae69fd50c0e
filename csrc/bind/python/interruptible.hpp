// Long native work, without the GIL but to look for signals: Ctrl-C ends it.
#pragma once

#include <pybind11/pybind11.h>

#include "bind/python/gil.hpp"

namespace loosestep::bind {

// One look, in the thread that waits: Ctrl-C arrives there. What a signal's handler raised is set.
inline bool interrupted() {
  try {
    const pybind11::gil_scoped_acquire held;
    return PyErr_CheckSignals() != 0;
  } catch (...) {
    block_forever();
  }
}

// What work(stop) returns; raises what a signal's handler raised.
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
