#include "cpu/threads.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace loosestep {
namespace {

constexpr std::size_t worth_it = std::size_t(1) << 20;  // bytes: below, waking threads costs what they save

std::thread::id home_thread;
pid_t home_process = 0;

int affinity() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

// A container's share of processor time, rounded up; cpu.max holds "quota period" or "max period".
int quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string allowed;
  double period = 0;
  if (!(file >> allowed >> period) || allowed == "max" || period <= 0) return 1 << 16;
  return std::max(1, static_cast<int>(std::strtod(allowed.c_str(), nullptr) / period + 0.999));
}

std::atomic<int>& chosen() {
  static std::atomic<int> n{cores()};
  return n;
}

bool at_home() { return std::this_thread::get_id() == home_thread && getpid() == home_process; }

}  // namespace

int cores() { return std::min(affinity(), quota()); }
int threads() { return has_openmp() ? chosen().load(std::memory_order_relaxed) : 1; }
void set_threads(int n) { chosen().store(n, std::memory_order_relaxed); }

void remember_thread() {
  home_thread = std::this_thread::get_id();
  home_process = getpid();
}

#if defined(_OPENMP)
bool has_openmp() { return true; }

void run_parts(std::size_t n, std::size_t grain, std::size_t bytes, Part part, void* context) {
  const std::size_t grains = (n + grain - 1) / grain;
  const int team = static_cast<int>(std::min<std::size_t>(static_cast<std::size_t>(threads()), grains));
  if (team < 2 || bytes < worth_it || !at_home()) return part(context, 0, n);
#pragma omp parallel num_threads(team)
  {
    const auto size = static_cast<std::size_t>(omp_get_num_threads());
    const auto rank = static_cast<std::size_t>(omp_get_thread_num());
    const std::size_t begin = grains * rank / size * grain;
    const std::size_t end = std::min(n, grains * (rank + 1) / size * grain);
    part(context, begin, end);
  }
}
#else
bool has_openmp() { return false; }

void run_parts(std::size_t n, std::size_t, std::size_t, Part part, void* context) { part(context, 0, n); }
#endif

}  // namespace loosestep
