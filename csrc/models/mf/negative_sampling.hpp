// Implicit feedback: the pairs that were seen, and pairs that were not, sampled anew for every epoch.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "models/mf/grid.hpp"
#include "models/threads/even_split.hpp"
#include "models/threads/random.hpp"
#include "models/threads/thread_team.hpp"

namespace loosestep::mf {

// The columns that a grid is made of.
struct RatingColumns {
  std::vector<std::uint32_t> users, items;
  std::vector<float> values, weights;

  void reserve(std::size_t add_squares) {
    users.reserve(add_squares), items.reserve(add_squares), values.reserve(add_squares),
        weights.reserve(add_squares);
  }
  void add(std::uint32_t user, std::uint32_t item, float value, float weight) {
    users.push_back(user), items.push_back(item), values.push_back(value), weights.push_back(weight);
  }
};

// The items of one user, a bit for each item.
class ItemSet {
 public:
  explicit ItemSet(std::uint32_t items) : words_(items / 64 + 1) {}
  bool operator[](std::uint32_t item) const { return words_[item / 64] >> (item % 64) & 1; }
  void set(std::uint32_t item, bool on) {
    const std::uint64_t bit = std::uint64_t(1) << (item % 64);
    words_[item / 64] = on ? words_[item / 64] | bit : words_[item / 64] & ~bit;
  }

 private:
  std::vector<std::uint64_t> words_;
};

class SeenPairs {
 public:
  SeenPairs(std::span<const std::uint32_t> users, std::span<const std::uint32_t> items,
            std::span<const float> weights, std::pair<std::uint32_t, std::uint32_t> shape)
      : begin_(std::size_t(shape.first) + 1), items_(items.size()), weights_(items.size()), shape_(shape) {
    for (const std::uint32_t user : users) ++begin_[std::size_t(user) + 1];
    for (std::size_t user = 0; user < shape.first; ++user) begin_[user + 1] += begin_[user];
    std::vector<std::uint64_t> next(begin_.begin(), begin_.end() - 1);
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::uint64_t place = next[users[i]]++;
      items_[place] = items[i], weights_[place] = weights[i];
    }
  }

  std::pair<std::uint32_t, std::uint32_t> shape() const { return shape_; }

  // Return the seen pairs with value 1 and, for each of them, `each` pairs of the same user and a uniformly
  // random item with value 0 and weight 1, without those that were seen. Every user has a random stream, so
  // the result does not depend on the number of threads.
  template <class Stop>
  std::vector<RatingColumns> sample(std::uint32_t each, std::uint64_t seed, std::uint64_t epoch, int threads,
                                    Stop stop) const {
    models::ThreadTeam team;
    std::vector<RatingColumns> parts(static_cast<std::size_t>(threads));
    const auto work = [&](int thread) {
      const std::uint32_t first = first_user(thread, threads), last = first_user(thread + 1, threads);
      RatingColumns& mine = parts[static_cast<std::size_t>(thread)];
      mine.reserve((begin_[last] - begin_[first]) * (std::uint64_t(each) + 1));
      ItemSet marks(shape_.second);
      for (std::uint32_t user = first; user < last && !team.stopped(); ++user)
        draw(user, each, models::Random(seed, epoch, user), marks, mine);
    };
    team.run(threads, work, stop);
    return parts;
  }

 private:
  // Return the first user of a thread; threads have about the same number of pairs.
  std::uint32_t first_user(int thread, int threads) const {
    if (thread == threads) return shape_.first;
    const std::uint64_t pair = models::split_begin(items_.size(), thread, threads);
    const auto found = std::lower_bound(begin_.begin(), begin_.end() - 1, pair);
    return static_cast<std::uint32_t>(found - begin_.begin());
  }

  void draw(std::uint32_t user, std::uint32_t each, models::Random random, ItemSet& marks,
            RatingColumns& into) const {
    const std::uint64_t first = begin_[user], last = begin_[user + 1];
    for (std::uint64_t i = first; i < last; ++i) {
      marks.set(items_[i], true);
      into.add(user, items_[i], 1, weights_[i]);
    }
    for (std::uint64_t left = (last - first) * each; left > 0; --left)
      if (const std::uint32_t item = random.below(shape_.second); !marks[item]) into.add(user, item, 0, 1);
    for (std::uint64_t i = first; i < last; ++i) marks.set(items_[i], false);
  }

  std::vector<std::uint64_t> begin_;  // of every user, then the end
  std::vector<std::uint32_t> items_;
  std::vector<float> weights_;
  std::pair<std::uint32_t, std::uint32_t> shape_;
};

inline RatingColumns concatenated(std::vector<RatingColumns> parts) {
  RatingColumns all = std::move(parts.front());
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (std::size_t i = 1; i < parts.size(); ++i) {
    append(all.users, parts[i].users), append(all.items, parts[i].items);
    append(all.values, parts[i].values), append(all.weights, parts[i].weights);
  }
  return all;
}

}  // namespace loosestep::mf
