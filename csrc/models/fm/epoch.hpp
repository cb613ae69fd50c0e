// One epoch of a factorization machine. Threads share all features without locks; each visits its own chunks
// of examples in random order.
#pragma once

#include <numeric>

#include "models/fm/model.hpp"
#include "models/threads/even_split.hpp"
#include "models/threads/random.hpp"
#include "models/threads/thread_team.hpp"

namespace loosestep::fm {

constexpr std::int64_t chunk = 64;  // adjacent examples: a random order of single ones would miss the caches

// Call work(thread, first, last) for chunks of examples until all are done or `stop` returns true.
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

// Train on all examples; return the sum of their losses, each before its own update.
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
