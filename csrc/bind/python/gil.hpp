// Releases the GIL in a scope.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace loosestep::bind {

// Block until the process ends. Before Python 3.14 a daemon thread that asks for the GIL after the end of the
// interpreter has its stack unwound, and an unwinding through C++ frames aborts the process; so a `catch`
// holds it up here.
[[noreturn]] inline void block_forever() {
  for (;;) ::pause();
}

// Like pybind11::gil_scoped_release, except at the end of the interpreter.
class ReleaseGil {
 public:
  ReleaseGil() : state_(PyEval_SaveThread()) {}
  ~ReleaseGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      block_forever();
    }
  }
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace loosestep::bind
