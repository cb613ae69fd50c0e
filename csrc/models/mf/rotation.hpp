// Model rotation (Harp; Zhang, Peng, Qiu 2016): workers keep their users, and slices of the items move around
// a ring.
//
// There are two slices per worker: while one is in transit the worker has another. In round j worker w visits
// the slices 2c and 2c + 1 with c = w - j and hands each on. Two workers never write to the same row, so the
// result has the bits of a sequential run. With order "permutation" the ring is drawn again for every
// iteration. With `seconds` a visit ends after that time, and the remaining cells are left for the next
// visit.
#pragma once

#include <utility>

#include "models/mf/hogwild_epoch.hpp"

namespace loosestep::mf {

enum class Order { ring, permutation };

class Rotation {
 public:
  Rotation(const RatingGrid& grid, int workers, Order order, double seconds, std::uint64_t seed)
      : grid_(grid), workers_(workers), order_(order), seconds_(seconds), seed_(seed) {
    const auto n = static_cast<std::uint32_t>(workers);
    for (std::uint32_t w = 0; w < n; ++w)
      for (std::uint32_t slice = 0; slice < 2 * n; ++slice) progress_.push_back(new_pass(w, slice, 0));
  }

  const RatingGrid& grid() const { return grid_; }
  int workers() const { return workers_; }
  std::uint32_t slices() const { return 2 * static_cast<std::uint32_t>(workers_); }

  // Run one iteration: every worker visits every slice once.
  template <class Stop> VisitSums iterate(const Model& model, VisitKernel visit, Stop stop) {
    models::ThreadTeam team;
    const std::vector<std::uint32_t> ring = ring_order();
    std::vector<std::atomic<std::uint32_t>> handed_on(
        slices());  // how many workers have handed it on in this iteration
    std::vector<VisitSums> sums(ring.size());
    const auto work = [&](int w) {
      const auto at = static_cast<std::size_t>(w);
      sums[at] = run_worker(model, visit, static_cast<std::uint32_t>(w), ring[at], handed_on, team);
    };
    team.run(workers_, work, stop);
    ++iteration_;
    return total(sums);
  }

 private:
  using Cell = std::pair<std::uint32_t, std::uint32_t>;  // user block, item block
  using Clock = std::chrono::steady_clock;

  // A worker's cells in a slice, in the order of this pass, and how many of them it has visited.
  struct SliceProgress {
    std::uint64_t pass;
    std::size_t next;
    std::vector<Cell> cells;
  };

  SliceProgress new_pass(std::uint32_t w, std::uint32_t slice, std::uint64_t pass) const {
    models::Random random(seed_, pass, std::uint64_t(w) * slices() + slice);
    const BlockRange users = block_range(grid_.users().blocks(), static_cast<int>(w), workers_);
    const BlockRange items = block_range(grid_.items().blocks(), static_cast<int>(slice), 2 * workers_);
    const std::uint64_t inner = random.next();
    SliceProgress made{pass, 0, {}};
    for (const std::uint32_t item : models::random_permutation(items.last - items.first, random))
      for (const std::uint32_t user :
           models::random_permutation(users.last - users.first, models::Random(inner, item)))
        made.cells.emplace_back(users.first + user, items.first + item);
    return made;
  }

  // Return the position of each worker on the ring.
  std::vector<std::uint32_t> ring_order() const {
    const auto n = static_cast<std::uint32_t>(workers_);
    if (order_ == Order::permutation)
      return models::random_permutation(n, models::Random(seed_, iteration_, ~0ull));
    std::vector<std::uint32_t> ring(n);
    std::iota(ring.begin(), ring.end(), 0u);
    return ring;
  }

  VisitSums run_worker(const Model& model, VisitKernel visit, std::uint32_t w, std::uint32_t position,
                       std::vector<std::atomic<std::uint32_t>>& handed_on, const models::ThreadTeam& team) {
    const auto n = static_cast<std::uint32_t>(workers_);
    ThreadState state = thread_state(seed_, iteration_, w);
    for (std::uint32_t round = 0; round < n; ++round)
      for (std::uint32_t k = 0; k < 2; ++k) {
        const std::uint32_t slice = 2 * ((position + n - round) % n) + k;
        if (!wait_for_slice(handed_on[slice], round, team)) return state.sums;
        visit_slice(progress_[std::size_t(w) * slices() + slice], w, slice, model, visit, state, team);
        handed_on[slice].store(round + 1, std::memory_order_release);
      }
    return state.sums;
  }

  // Wait until the previous worker has handed on the slice; return false where the team was stopped, as after
  // an error there.
  static bool wait_for_slice(const std::atomic<std::uint32_t>& handed_on, std::uint32_t round,
                             const models::ThreadTeam& team) {
    for (int turns = 0; handed_on.load(std::memory_order_acquire) < round; ++turns) {
      if (team.stopped()) return false;
      if (turns < 64)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return true;
  }

  void visit_slice(SliceProgress& progress, std::uint32_t w, std::uint32_t slice, const Model& model,
                   VisitKernel visit, ThreadState& state, const models::ThreadTeam& team) {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds_);
    const Rating* const last = grid_.ratings().data() + grid_.ratings().size();
    for (std::size_t left = progress.cells.size(); left > 0 && !team.stopped(); --left) {
      if (progress.next == progress.cells.size()) progress = new_pass(w, slice, progress.pass + 1);
      const auto cell = grid_.at(progress.cells[progress.next].first, progress.cells[progress.next].second);
      visit(model, cell.data(), cell.data() + cell.size(), last, state);
      ++progress.next;
      if (Clock::now() >= end) return;
    }
  }

  const RatingGrid& grid_;
  int workers_;
  Order order_;
  double seconds_;
  std::uint64_t seed_, iteration_ = 0;
  std::vector<SliceProgress> progress_;
};

}  // namespace loosestep::mf
