// One epoch of a factorization machine: threads share all features and lock nothing; chunks of examples come
// in random order, each thread's its own.
#pragma once

#include <numeric>

#include "models/crew.hpp"
#include "models/edge.hpp"
#include "models/factors_machine.hpp"
#include "models/random.hpp"

namespace loosestep::factors {

constexpr std::int64_t chunk =
    64;  // examples that lie together: a random order of single ones misses the caches

// Runs work(thread, first, last) over chunks of examples until they are done or `stop` says so.
template <class Work, class Stop>
void over_chunks(const std::vector<std::uint32_t>& order, std::int64_t count, int threads, Work work,
                 Stop stop) {
  models::Crew crew;
  const auto thread_work = [&](int thread) {
    const std::size_t last = models::edge(order.size(), thread + 1, threads);
    for (std::size_t i = models::edge(order.size(), thread, threads); i < last && !crew.stopped(); ++i)
      work(thread, order[i] * chunk, std::min(count, (order[i] + 1) * chunk));
  };
  crew.run(threads, thread_work, stop);
}

// The sum of the examples' losses, each before it was learned.
template <class Stop>
double learn_all(const Machine& machine, const Examples& examples, std::int64_t count, Learn learn,
                 int threads, models::Random random, Stop stop) {
  std::vector<double> total(static_cast<std::size_t>(threads));
  const auto order = models::shuffled(static_cast<std::uint32_t>((count + chunk - 1) / chunk), random);
  const auto work = [&](int thread, std::int64_t begin, std::int64_t end) {
    total[static_cast<std::size_t>(thread)] += learn(machine, examples, begin, end);
  };
  over_chunks(order, count, threads, work, stop);
  return std::accumulate(total.begin(), total.end(), 0.0);
}

}  // namespace loosestep::factors
