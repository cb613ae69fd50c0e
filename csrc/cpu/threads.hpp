// The threads of one call: OpenMP where the compiler has it (torch uses the same threads, so neither library
// waits for those of the other to stop spinning), else none.
#pragma once
#include <cstddef>

namespace loosestep {

bool has_openmp();
int cores();    // available to this process
int threads();  // used by a large call
void set_threads(int n);

// Remember the thread and process that may start others: the threads of OpenMP do not survive a fork, and a
// second thread would get a second set of them. Calls from elsewhere run serially.
void set_owner_thread();

using Part = void (*)(void* context, std::size_t begin, std::size_t end);
// Call `part` for [0, n), divided at multiples of `grain`, in several threads where that pays for `bytes` of
// traffic.
void run_parts(std::size_t n, std::size_t grain, std::size_t bytes, Part part, void* context);

template <class F> void parallel(std::size_t n, std::size_t grain, std::size_t bytes, F&& f) {
  auto part = [](void* context, std::size_t begin, std::size_t end) {
    (*static_cast<F*>(context))(begin, end);
  };
  run_parts(n, grain, bytes, part, &f);
}

}  // namespace loosestep
