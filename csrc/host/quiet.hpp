// Threads of our own take no signals.
#pragma once

#include <signal.h>

namespace loosestep::host {

// Signals are for Python's own thread; a thread inherits what its maker blocks.
class QuietSignals {
 public:
  QuietSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~QuietSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  QuietSignals(const QuietSignals&) = delete;
  QuietSignals& operator=(const QuietSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace loosestep::host
