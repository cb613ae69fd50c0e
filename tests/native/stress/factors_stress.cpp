// Hogwild and rotation over factors from std::threads; tests/native/stress/sanitize.sh builds it under
// ThreadSanitizer and under AddressSanitizer with UBSan. Hogwild through the atomic accessor alone: the
// vectors' races are meant, and lie outside what a sanitizer can judge. Rotation through the vectors: there
// it must see no race at all.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "models/fm/epoch.hpp"
#include "models/fm/example.hpp"
#include "models/mf/negative_sampling.hpp"
#include "models/mf/rotation.hpp"
#include "models/mf/visit.hpp"
#include "stress.hpp"

using namespace loosestep;
using namespace loosestep::mf;
using namespace loosestep::simd;

namespace {

bool go_on() { return false; }

// Ratings of every user on every item.
struct Ratings {
  std::vector<std::uint32_t> users, items;
  std::vector<float> values;
  std::uint32_t user_count, item_count;

  Ratings(std::uint32_t user_count, std::uint32_t item_count)
      : user_count(user_count), item_count(item_count) {
    for (std::uint32_t u = 0; u < user_count; ++u)
      for (std::uint32_t i = 0; i < item_count; ++i)
        users.push_back(u), items.push_back(i), values.push_back(static_cast<float>((u * 7 + i) % 5) - 2);
  }

  RatingGrid grid(std::uint32_t user_blocks, std::uint32_t item_blocks) const {
    return {users,
            items,
            values,
            {},
            BlockBounds(users, user_count, user_blocks),
            BlockBounds(items, item_count, item_blocks),
            1};
  }
};

template <class T> struct Tables {
  std::vector<T> p, q;
  std::vector<float> bias_p, bias_q, squares_p, squares_q;

  Tables(std::size_t users, std::size_t items, int lines)
      : p(users * static_cast<std::size_t>(lines * line)),
        q(items * static_cast<std::size_t>(lines * line)),
        bias_p(users),
        bias_q(items),
        squares_p(users, 1),
        squares_q(items, 1) {
    for (std::size_t i = 0; i < p.size(); ++i) p[i] = start(i);
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = start(i + 3);
  }

  static T start(std::size_t i) {
    const float x = static_cast<float>(i % 11) * 0.02f;
    if constexpr (std::is_same_v<T, float>)
      return x;
    else
      return std::bit_cast<std::uint32_t>(x) & 0xFFFF0000u;
  }

  Model model(int lines, float rate) {
    return {{p.data(), bias_p.data(), squares_p.data(), nullptr, 0.05f},
            {q.data(), bias_q.data(), squares_q.data(), nullptr, 0.05f},
            lines,
            lines * line,
            rate};
  }
};

template <class Layout, Adds adds> void hogwild_learns(const Ratings& ratings, int threads) {
  Tables<typename Layout::Element> tables(ratings.user_count, ratings.item_count, 2);
  const RatingGrid grid = ratings.grid(8, 8);
  double first = 0, last = 0;
  for (std::uint64_t epoch = 0; epoch < 6; ++epoch) {
    const Epoch what{grid, tables.model(2, 0.1f), visit<Atomics<Layout, adds>, adds, 2>, threads, 7, epoch};
    last = hogwild(what, go_on).squares;
    if (epoch == 0) first = last;
  }
  check(last < first && last > 0, "Hogwild learns", static_cast<long>(first), static_cast<long>(last));
}

// Every rating of another user, so every visit adds 1 to its item, whatever the others do.
void exact_adds_lose_nothing(std::uint32_t users, int threads) {
  std::vector<std::uint32_t> own(users), items(users, 0);
  std::iota(own.begin(), own.end(), 0u);
  const std::vector<float> ones(users, 1);
  const RatingGrid grid(own, items, ones, {}, BlockBounds(own, users, 16), BlockBounds(items, 1, 1), 1);
  std::vector<float> p(users * line, 0x1p-60f), q(line, 0);
  const Model model{
      {p.data(), nullptr, nullptr, nullptr, 0}, {q.data(), nullptr, nullptr, nullptr, 0}, 1, line, 0x1p60f};
  hogwild({grid, model, visit<Atomics<Float32Rows, Adds::exact>, Adds::exact, 1>, threads, 7, 0}, go_on);
  for (const float each : q)
    check(each == static_cast<float>(users), "exact adds lose nothing", static_cast<long>(each));
}

std::vector<float> rotated(const Ratings& ratings, int workers, Order order) {
  Tables<float> tables(ratings.user_count, ratings.item_count, 2);
  const RatingGrid grid = ratings.grid(8, 8);
  Rotation rotation(grid, workers, order, std::numeric_limits<double>::infinity(), 3);
  for (int i = 0; i < 4; ++i)
    rotation.iterate(tables.model(2, 0.1f), visit<Vectors<Float32Rows>, Adds::racy, 2>, go_on);
  return tables.q;
}

// All that were seen, and others of the same users, the same whatever the number of threads.
void unseen_pairs_are_drawn(int threads) {
  constexpr std::uint32_t users = 50, items = 40, each = 3;
  std::vector<std::uint32_t> u, i;
  for (std::uint32_t pair = 0; pair < users * items; pair += 3)
    u.push_back(pair / items), i.push_back(pair % items);
  const std::vector<float> weights(u.size(), 2);
  const SeenPairs seen(u, i, weights, {users, items});
  const RatingColumns alone = concatenated(seen.sample(each, 7, 1, 1, go_on)),
                      found = concatenated(seen.sample(each, 7, 1, threads, go_on));
  check(found.users == alone.users && found.items == alone.items, "the same draws", threads);
  const auto met = std::count(found.values.begin(), found.values.end(), 1.0f);
  check(met == static_cast<std::ptrdiff_t>(u.size()), "all that were seen", static_cast<long>(met));
  for (std::size_t k = 0; k < found.users.size(); ++k) {
    const bool was_seen = (found.users[k] * items + found.items[k]) % 3 == 0;
    check(was_seen == (found.values[k] == 1), "others were not seen", static_cast<long>(k));
  }
}

void a_stop_ends_the_rotation(const Ratings& ratings) {
  Tables<float> tables(ratings.user_count, ratings.item_count, 2);
  const RatingGrid grid = ratings.grid(8, 8);
  Rotation rotation(grid, 4, Order::ring, std::numeric_limits<double>::infinity(), 3);
  rotation.iterate(tables.model(2, 0.1f), visit<Vectors<Float32Rows>, Adds::racy, 2>, [] { return true; });
}

void machines_learn(int threads) {
  constexpr std::int64_t count = 2000, each = 3;
  constexpr std::int32_t features = 30;
  std::vector<std::int64_t> begin(count + 1);
  std::vector<std::int32_t> feature;
  std::vector<float> target(count), value(count * each, 1), v(features * line, 0.1f);
  std::vector<fm::FeatureState> states(features, {0, 1, 1, 0});
  float intercept = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int32_t k = 0; k < each; ++k)
      feature.push_back(k * 10 + static_cast<std::int32_t>(i * (k + 3) % 10));
    target[static_cast<std::size_t>(i)] = i * 3 % 10 < 5 ? 1 : -1;
    begin[static_cast<std::size_t>(i) + 1] = (i + 1) * each;
  }
  const fm::Examples examples{begin.data(), feature.data(), value.data(), target.data(), nullptr};
  const fm::Model machine{v.data(), states.data(), &intercept, 1, line, 0.1f, 1e-4f, 1e-4f, true};
  const auto epoch = [&](std::uint64_t number) {
    const auto learn = fm::learn<Atomics<Float32Rows, Adds::racy>, fm::logistic, 1>;
    return fm::learn_epoch(machine, examples, count, learn, threads, models::Random(1, number), go_on);
  };
  const double first = epoch(0), last = (epoch(1), epoch(2));
  check(last < first && last >= 0, "a machine learns", static_cast<long>(first), static_cast<long>(last));
}

}  // namespace

int main(int count, char** given) {
  const int scale = count > 1 ? std::atoi(given[1]) : 1;
  const Ratings ratings(60, 50);
  for (int turn = 0; turn < 3 * scale; ++turn) {
    hogwild_learns<Float32Rows, Adds::racy>(ratings, 4);
    hogwild_learns<Float32Rows, Adds::exact>(ratings, 4);
    hogwild_learns<Bfloat16Rows, Adds::racy>(ratings, 4);
    exact_adds_lose_nothing(4000, 4);
    for (const Order order : {Order::ring, Order::permutation})
      check(rotated(ratings, 4, order) == rotated(ratings, 4, order), "a rotation gives the same bits", turn);
    a_stop_ends_the_rotation(ratings);
    machines_learn(4);
    unseen_pairs_are_drawn(4);
  }
  std::printf("factors: %d turns\n", 3 * scale);
}
