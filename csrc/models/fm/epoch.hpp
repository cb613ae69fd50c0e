// One epoch of a factorization machine: threads share all features and lock nothing; chunks of examples come
// in random order, each thread's its own.
#pragma once

#include <numeric>

#include "models/fm/model.hpp"
#include "models/threads/even_split.hpp"
#include "models/threads/random.hpp"
#include "models/threads/thread_team.hpp"

namespace loosestep::fm {

constexpr std::int64_t chunk =
    64;  // examples that lie together: a random order of single ones misses the caches

// Runs work(thread, first, last) over chunks of examples until they are done or `stop` says so.
template <class Work, class Stop>
void for_chunks(const std::vector<std::uint32_t>& order, std::int64_t count, int threads, Work work,
                Stop stop) {
  models::ThreadTeam team;
  const auto thread_work = [&](int thread) {
    const std::size_t last = models::split_begin(order.size(), thread + 1, threads);
    for (std::size_t i = models::split_begin(order.size(), thread, threads); i < last && !team.stopped(); ++i)
      work(thread, order[i] * chunk, std::min(count, (order[i] + 1) * chunk));
  };
  team.run(threads, thread_work, stop);
}

// The sum of the examples' losses, each before it was learned.
template <class Stop>
double learn_epoch(const Model& model, const Examples& examples, std::int64_t count, LearnKernel learn,
                   int threads, models::Random random, Stop stop) {
  std::vector<double> total(static_cast<std::size_t>(threads));
  const auto order =
      models::random_permutation(static_cast<std::uint32_t>((count + chunk - 1) / chunk), random);
  const auto work = [&](int thread, std::int64_t begin, std::int64_t end) {
    total[static_cast<std::size_t>(thread)] += learn(model, examples, begin, end);
  };
  for_chunks(order, count, threads, work, stop);
  return std::accumulate(total.begin(), total.end(), 0.0);
}

}  // namespace loosestep::fm
