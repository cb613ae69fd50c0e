#include "cpu/threads.hpp"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace loosestep {
namespace {

// Bytes of traffic below which waking threads costs as much as it saves.
[[maybe_unused]] constexpr std::size_t min_parallel_bytes = std::size_t(1) << 20;

std::thread::id owner_thread;
pid_t owner_process = 0;

int affinity() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

// Return the container's CPU quota, rounded up; cpu.max holds "quota period" or "max period".
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

[[maybe_unused]] bool may_start_threads() {
  return std::this_thread::get_id() == owner_thread && getpid() == owner_process;
}

}  // namespace

int cores() { return std::min(affinity(), quota()); }
int threads() { return has_openmp() ? chosen().load(std::memory_order_relaxed) : 1; }
void set_threads(int n) { chosen().store(n, std::memory_order_relaxed); }

void set_owner_thread() {
  owner_thread = std::this_thread::get_id();
  owner_process = getpid();
}

#if defined(_OPENMP)
bool has_openmp() { return true; }

namespace {

constexpr std::size_t batch_bytes = std::size_t(1) << 20;  // bytes of traffic that a thread takes at a time

// What is left of one thread's share, in grains.
struct alignas(64) Share {
  std::atomic<std::size_t> next{0};
  std::size_t end = 0;
};

double seconds_of(clockid_t clock) {
  timespec at{};
  clock_gettime(clock, &at);
  return static_cast<double>(at.tv_sec) + 1e-9 * static_cast<double>(at.tv_nsec);
}

// On a busy machine a call may take much longer in threads than alone: one of them gets a core only long after
// the others have done all of the work, or takes the core of the caller. After such a call some run alone: twice
// as many after each, and none when calls end in time again. Only the owner thread is here.
class Company {
 public:
  bool shunned() { return left_ > 0 && left_-- > 0; }

  void begin() {
    began_ = worked_ = seconds_of(CLOCK_MONOTONIC);
    computed_ = watched_ ? seconds_of(CLOCK_THREAD_CPUTIME_ID) : 0;
  }

  // The caller's own part is done.
  void worked() {
    worked_ = seconds_of(CLOCK_MONOTONIC);
    computed_ = watched_ ? seconds_of(CLOCK_THREAD_CPUTIME_ID) - computed_ : worked_ - began_;
  }

  void end(std::size_t bytes) {
    const double took = seconds_of(CLOCK_MONOTONIC) - began_;
    if (took > 2 * computed_) {
      left_ = next_;
      next_ = std::min(2 * next_, most);
    } else {
      next_ = std::max(1, next_ / 2);
    }
    watched_ = took > 1e-3 && static_cast<double>(bytes) < 1e9 * took;
  }

 private:
  static constexpr int most = 64;
  int left_ = 0, next_ = 1;  // calls that run alone: still, and after the next long one
  bool watched_ = false;     // the last call was slow: read the processor's clock, which takes half a microsecond
  double began_ = 0, worked_ = 0, computed_ = 0;
};
Company company;

struct Job {
  std::size_t n, grain, grains_per_batch;
  Part part;
  void* context;
};

void run_share(Share& share, const Job& job) {
  for (;;) {
    const std::size_t begin = share.next.fetch_add(job.grains_per_batch, std::memory_order_relaxed);
    if (begin >= share.end) return;
    const std::size_t end = std::min(begin + job.grains_per_batch, share.end);
    job.part(job.context, begin * job.grain, std::min(job.n, end * job.grain));
  }
}

std::vector<Share> shares(std::size_t team, std::size_t grains) {
  std::vector<Share> all(team);
  for (std::size_t rank = 0; rank < team; ++rank) {
    all[rank].next = grains * rank / team;
    all[rank].end = grains * (rank + 1) / team;
  }
  return all;
}

}  // namespace

// Every thread first works through its own share, the same in every call, so that memory stays near it; then
// it helps the others, one of which may have lost its core.
void run_parts(std::size_t n, std::size_t grain, std::size_t bytes, Part part, void* context) {
  const std::size_t grains = (n + grain - 1) / grain;
  const std::size_t team = std::min(static_cast<std::size_t>(threads()), grains);
  if (team < 2 || bytes < min_parallel_bytes || !may_start_threads() || company.shunned()) return part(context, 0, n);
  const Job job{n, grain, std::max<std::size_t>(1, grains / (bytes / batch_bytes)), part, context};
  std::vector<Share> all = shares(team, grains);
  company.begin();
#pragma omp parallel num_threads(static_cast<int>(team))
  {
    const auto rank = static_cast<std::size_t>(omp_get_thread_num());
    for (std::size_t i = 0; i < team; ++i) run_share(all[(rank + i) % team], job);
    if (rank == 0) company.worked();
  }
  company.end(bytes);
}
#else
bool has_openmp() { return false; }

void run_parts(std::size_t n, std::size_t, std::size_t, Part part, void* context) { part(context, 0, n); }
#endif

}  // namespace loosestep
