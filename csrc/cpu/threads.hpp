// The threads that share one call. OpenMP where the compiler has it (its threads are the ones that torch
// uses, so neither waits for the other's to stop spinning), else none.
#pragma once
#include <cstddef>

namespace loosestep {

bool has_openmp();
int cores();    // that this process may use
int threads();  // that a large call uses
void set_threads(int n);

// Remembers the thread and the process that may start others: OpenMP's threads do not survive a fork, and a
// second thread would get a second set of them. Everywhere else calls run serially.
void set_owner_thread();

using Part = void (*)(void* context, std::size_t begin, std::size_t end);
// Calls part on [0, n) cut at multiples of `grain`, in several threads where that pays for `bytes` of
// traffic.
void run_parts(std::size_t n, std::size_t grain, std::size_t bytes, Part part, void* context);

template <class F> void parallel(std::size_t n, std::size_t grain, std::size_t bytes, F&& f) {
  auto part = [](void* context, std::size_t begin, std::size_t end) {
    (*static_cast<F*>(context))(begin, end);
  };
  run_parts(n, grain, bytes, part, &f);
}

}  // namespace loosestep
