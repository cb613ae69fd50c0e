// Python's lock, given back for the length of a scope.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace loosestep::bind {

// Where a daemon thread that asks for the lock after the end of the interpreter waits for the end of the
// process, as it does from Python 3.14 on. Before, Python unwinds its stack, which frames of C++ do not let
// pass: the whole process would be aborted. The unwinding is held up for ever in a `catch`, which calls this.
[[noreturn]] inline void block_forever() {
  for (;;) ::pause();
}

// As pybind11::gil_scoped_release, but for the end of the interpreter.
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
