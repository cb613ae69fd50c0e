// Ratings, divided into a grid of cells whose rows of factors stay in cache, and shuffled within each cell.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "models/mf/model.hpp"
#include "models/threads/random.hpp"

namespace loosestep::mf {

// The blocks of consecutive rows. They have about the same number of ratings; a row is never split, so some
// blocks may be empty.
class BlockBounds {
 public:
  BlockBounds(std::span<const std::uint32_t> index, std::uint32_t rows, std::uint32_t blocks)
      : block_of_(rows) {
    std::vector<std::uint64_t> counts(rows);
    for (const std::uint32_t i : index) ++counts[i];
    std::uint64_t before = 0;
    for (std::uint32_t i = 0; i < rows; before += counts[i++])
      block_of_[i] = static_cast<std::uint32_t>((before + counts[i] / 2) * blocks / (index.size() + 1));
    first_.assign(blocks + 1, rows);
    for (std::uint32_t i = rows; i-- > 0;) first_[block_of_[i]] = i;
    for (std::uint32_t b = blocks; b-- > 0;) first_[b] = std::min(first_[b], first_[b + 1]);
  }

  std::uint32_t blocks() const { return static_cast<std::uint32_t>(first_.size() - 1); }
  std::uint32_t rows() const { return static_cast<std::uint32_t>(block_of_.size()); }
  std::uint32_t of(std::uint32_t row) const { return block_of_[row]; }
  const std::vector<std::uint32_t>& first() const { return first_; }

 private:
  std::vector<std::uint32_t> first_, block_of_;
};

class RatingGrid {
 public:
  RatingGrid(std::span<const std::uint32_t> users, std::span<const std::uint32_t> items,
             std::span<const float> values, std::span<const float> weights, BlockBounds user_cuts,
             BlockBounds item_cuts, std::uint64_t seed)
      : users_(std::move(user_cuts)), items_(std::move(item_cuts)), ratings_(values.size()) {
    begin_.assign(std::size_t(users_.blocks()) * items_.blocks() + 1, 0);
    for (std::size_t i = 0; i < values.size(); ++i) ++begin_[cell(users[i], items[i]) + 1];
    for (std::size_t i = 1; i < begin_.size(); ++i) begin_[i] += begin_[i - 1];
    std::vector<std::uint64_t> next(begin_.begin(), begin_.end() - 1);
    for (std::size_t i = 0; i < values.size(); ++i)
      ratings_[next[cell(users[i], items[i])]++] = {users[i], items[i], values[i],
                                                    weights.empty() ? 1 : weights[i]};
    for (std::size_t c = 0; c + 1 < begin_.size(); ++c) shuffle(c, models::Random(seed, c));
  }

  std::span<const Rating> at(std::uint32_t user_block, std::uint32_t item_block) const {
    const std::size_t c = std::size_t(item_block) * users_.blocks() + user_block;
    return {ratings_.data() + begin_[c], ratings_.data() + begin_[c + 1]};
  }
  const BlockBounds& users() const { return users_; }
  const BlockBounds& items() const { return items_; }
  const std::vector<Rating>& ratings() const { return ratings_; }
  const std::vector<std::uint64_t>& begins() const { return begin_; }

 private:
  std::size_t cell(std::uint32_t user, std::uint32_t item) const {
    return std::size_t(items_.of(item)) * users_.blocks() + users_.of(user);
  }

  void shuffle(std::size_t c, models::Random random) {
    Rating* const first = ratings_.data() + begin_[c];
    for (auto left = static_cast<std::uint32_t>(begin_[c + 1] - begin_[c]); left > 1; --left)
      std::swap(first[left - 1], first[random.below(left)]);
  }

  BlockBounds users_, items_;
  std::vector<Rating> ratings_;
  std::vector<std::uint64_t> begin_;  // of cells: all user blocks of the first item block, then of the next
};

}  // namespace loosestep::mf
