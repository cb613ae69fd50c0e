// One epoch of Hogwild over a grid: every thread has its own users, and all share the items.
//
// All threads visit the item blocks in the same random order, each from a different start, without waiting:
// so two seldom write to the same items, and the cache lines of popular ones seldom move between cores.
#pragma once

#include "models/mf/grid.hpp"
#include "models/threads/even_split.hpp"
#include "models/threads/thread_team.hpp"

namespace loosestep::mf {

// The options of an epoch.
struct Epoch {
  const RatingGrid& grid;
  Model model;
  VisitKernel visit;
  int threads;
  std::uint64_t seed, number;
};

// A thread's part of the blocks: [first, last).
struct BlockRange {
  std::uint32_t first, last;
};

inline BlockRange block_range(std::uint32_t blocks, int of, int threads) {
  const auto cut = [&](int i) { return static_cast<std::uint32_t>(models::split_begin(blocks, i, threads)); };
  return {cut(of), cut(of + 1)};
}

// The random streams of an epoch: the order of item blocks, common to all threads; the order of user blocks,
// by thread and item block; the rounding, by thread.
inline models::Random common_stream(const Epoch& epoch) { return models::Random(epoch.seed, epoch.number); }
inline models::Random stream(const Epoch& epoch, int thread, std::uint32_t item_block) {
  return models::Random(epoch.seed, epoch.number,
                        (std::uint64_t(item_block) << 32) + std::uint64_t(thread) + 1);
}

inline ThreadState thread_state(std::uint64_t seed, std::uint64_t epoch, std::uint64_t thread) {
  ThreadState made;
  models::Random random(seed, epoch, ~thread);
  for (std::uint32_t& lane : made.random) lane = static_cast<std::uint32_t>(random.next()) | 1;
  return made;
}

// Visit the cells of one item block and of a thread's users, in random order of users.
inline void visit_block(const Epoch& epoch, std::uint32_t item_block, const BlockRange& users,
                        models::Random random, ThreadState& thread_state, const models::ThreadTeam& team) {
  const Rating* const last = epoch.grid.ratings().data() + epoch.grid.ratings().size();
  for (const std::uint32_t user_block : models::random_permutation(users.last - users.first, random)) {
    if (team.stopped()) return;
    const auto cell = epoch.grid.at(users.first + user_block, item_block);
    epoch.visit(epoch.model, cell.data(), cell.data() + cell.size(), last, thread_state);
  }
}

inline VisitSums total(const std::vector<VisitSums>& threads) {
  VisitSums out;
  for (const VisitSums& each : threads) out.squares += each.squares, out.ratings += each.ratings;
  return out;
}

inline VisitSums hogwild_thread(const Epoch& epoch, int thread, const models::ThreadTeam& team) {
  const std::uint32_t blocks = epoch.grid.items().blocks();
  const BlockRange users = block_range(epoch.grid.users().blocks(), thread, epoch.threads);
  const auto order = models::random_permutation(blocks, common_stream(epoch));
  const std::uint32_t start = block_range(blocks, thread, epoch.threads).first;
  ThreadState mine = thread_state(epoch.seed, epoch.number, static_cast<std::uint64_t>(thread));
  for (std::uint32_t i = 0; i < blocks && !team.stopped(); ++i) {
    const std::uint32_t block = order[(start + i) % blocks];
    visit_block(epoch, block, users, stream(epoch, thread, block), mine, team);
  }
  return mine.sums;
}

// Run one epoch. `stop` as in ThreadTeam::run.
template <class Stop> VisitSums hogwild(const Epoch& epoch, Stop stop) {
  models::ThreadTeam team;
  std::vector<VisitSums> sums(static_cast<std::size_t>(epoch.threads));
  team.run(
      epoch.threads,
      [&](int thread) { sums[static_cast<std::size_t>(thread)] = hogwild_thread(epoch, thread, team); },
      stop);
  return total(sums);
}

}  // namespace loosestep::mf
