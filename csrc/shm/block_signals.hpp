// Blocks signals in threads of the core.
#pragma once

#include <signal.h>

namespace loosestep::shm {

// Blocks all signals in its scope: a thread that is started there inherits it, so signals reach only Python's
// thread.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace loosestep::shm
