// What the stress programs share.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

inline void check(bool fine, const char* what, long a = 0, long b = 0) {
  if (fine) return;
  std::fprintf(stderr, "FAILED: %s (%ld, %ld)\n", what, a, b);
  std::exit(1);
}

inline void on_threads(int size, const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back(work, rank);
  for (std::thread& thread : threads) thread.join();
}
