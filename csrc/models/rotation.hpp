// Model rotation (Harp; Zhang, Peng, Qiu 2016): workers keep their users, slices of the items go round a
// ring.
//
// Two slices a worker: while one is on its way the worker has another. In round j worker w visits the slices
// 2c and 2c + 1 with c = w - j, then hands each on: no two workers ever write to one row, so the result is
// the sequential one's, bit for bit. In order "permutation" the ring is drawn anew for every iteration. With
// `seconds` a visit ends after so long, and the cells left are for the slice's next visit.
#pragma once

#include <utility>

#include "models/factors_sweep.hpp"

namespace loosestep::factors {

enum class Order { ring, permutation };

class Rotation {
 public:
  Rotation(const Grid& grid, int workers, Order order, double seconds, std::uint64_t seed)
      : grid_(grid), workers_(workers), order_(order), seconds_(seconds), seed_(seed) {
    const auto n = static_cast<std::uint32_t>(workers);
    for (std::uint32_t w = 0; w < n; ++w)
      for (std::uint32_t slice = 0; slice < 2 * n; ++slice) pairs_.push_back(started(w, slice, 0));
  }

  const Grid& grid() const { return grid_; }
  int workers() const { return workers_; }
  std::uint32_t slices() const { return 2 * static_cast<std::uint32_t>(workers_); }

  // One iteration: every worker meets every slice once.
  template <class Stop> Visited iterate(const Model& model, Visit visit, Stop stop) {
    models::Crew crew;
    const std::vector<std::uint32_t> seats = seated();
    std::vector<std::atomic<std::uint32_t>> passed(slices());  // on from how many workers, in this iteration
    std::vector<Visited> visited(seats.size());
    const auto work = [&](int w) {
      const auto at = static_cast<std::size_t>(w);
      visited[at] = turn(model, visit, static_cast<std::uint32_t>(w), seats[at], passed, crew);
    };
    crew.run(workers_, work, stop);
    ++iteration_;
    return total(visited);
  }

 private:
  using Cell = std::pair<std::uint32_t, std::uint32_t>;  // user block, item block
  using Clock = std::chrono::steady_clock;

  // A worker's cells in a slice, in the order of this pass, and how many it has visited.
  struct Pair {
    std::uint64_t pass;
    std::size_t next;
    std::vector<Cell> cells;
  };

  Pair started(std::uint32_t w, std::uint32_t slice, std::uint64_t pass) const {
    models::Random random(seed_, pass, std::uint64_t(w) * slices() + slice);
    const Part users = part(grid_.users().blocks(), static_cast<int>(w), workers_);
    const Part items = part(grid_.items().blocks(), static_cast<int>(slice), 2 * workers_);
    const std::uint64_t inner = random.next();
    Pair made{pass, 0, {}};
    for (const std::uint32_t item : models::shuffled(items.last - items.first, random))
      for (const std::uint32_t user : models::shuffled(users.last - users.first, models::Random(inner, item)))
        made.cells.emplace_back(users.first + user, items.first + item);
    return made;
  }

  // Where on the ring each worker sits.
  std::vector<std::uint32_t> seated() const {
    const auto n = static_cast<std::uint32_t>(workers_);
    if (order_ == Order::permutation) return models::shuffled(n, models::Random(seed_, iteration_, ~0ull));
    std::vector<std::uint32_t> seats(n);
    std::iota(seats.begin(), seats.end(), 0u);
    return seats;
  }

  Visited turn(const Model& model, Visit visit, std::uint32_t w, std::uint32_t seat,
               std::vector<std::atomic<std::uint32_t>>& passed, const models::Crew& crew) {
    const auto n = static_cast<std::uint32_t>(workers_);
    Visitor mine = visitor(seed_, iteration_, w);
    for (std::uint32_t round = 0; round < n; ++round)
      for (std::uint32_t k = 0; k < 2; ++k) {
        const std::uint32_t slice = 2 * ((seat + n - round) % n) + k;
        if (!arrived(passed[slice], round, crew)) return mine.visited;
        meet(pairs_[std::size_t(w) * slices() + slice], w, slice, model, visit, mine, crew);
        passed[slice].store(round + 1, std::memory_order_release);
      }
    return mine.visited;
  }

  // Waits for the worker before; no longer than that works, for what fails there stops the crew.
  static bool arrived(const std::atomic<std::uint32_t>& passed, std::uint32_t round,
                      const models::Crew& crew) {
    for (int turns = 0; passed.load(std::memory_order_acquire) < round; ++turns) {
      if (crew.stopped()) return false;
      if (turns < 64)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return true;
  }

  void meet(Pair& pair, std::uint32_t w, std::uint32_t slice, const Model& model, Visit visit, Visitor& mine,
            const models::Crew& crew) {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds_);
    const Rating* const last = grid_.ratings().data() + grid_.ratings().size();
    for (std::size_t left = pair.cells.size(); left > 0 && !crew.stopped(); --left) {
      if (pair.next == pair.cells.size()) pair = started(w, slice, pair.pass + 1);
      const auto cell = grid_.at(pair.cells[pair.next].first, pair.cells[pair.next].second);
      visit(model, cell.data(), cell.data() + cell.size(), last, mine);
      ++pair.next;
      if (Clock::now() >= end) return;
    }
  }

  const Grid& grid_;
  int workers_;
  Order order_;
  double seconds_;
  std::uint64_t seed_, iteration_ = 0;
  std::vector<Pair> pairs_;
};

}  // namespace loosestep::factors
