// The visit of one rating, and of many: one source for every instruction set, storage and kind of access.
#pragma once

#include <utility>

#include "models/factors_line.hpp"

namespace loosestep::factors {
namespace {

constexpr int ahead = 12;  // ratings: their rows are asked for so early

template <class Access> HD typename Access::Element* row(const Side& side, std::uint32_t index, int lines) {
  return static_cast<typename Access::Element*>(side.rows) +
         std::size_t(index) * static_cast<std::size_t>(lines * line);
}

template <class Access, int lines> HD void fetch(const Model& model, const Rating& rating) {
  constexpr int step = 64 / sizeof(typename Access::Element);
  const auto *p = row<Access>(model.users, rating.user, lines),
             *q = row<Access>(model.items, rating.item, lines);
  for (int i = 0; i < lines * line; i += step) __builtin_prefetch(p + i, 1), __builtin_prefetch(q + i, 1);
}

// One side's numbers of a row other than the row itself.
struct Scalars {
  float bias, l2, squares, rate;
};

HD Scalars scalars(const Side& side, std::uint32_t index, float rate) {
  Scalars out{0, side.l2_of ? side.l2_of[index] : side.l2, 1, rate};
  if (side.bias) out.bias = relaxed(side.bias + index);
  if (side.squares) {
    out.squares = relaxed(side.squares + index);
    out.rate = rate / root(out.squares);
  }
  return out;
}

template <Adds adds> HD void move_bias(const Side& side, std::uint32_t index, const Scalars& at, float e) {
  if (side.bias) put<adds>(side.bias + index, at.bias, at.bias + at.rate * (e - at.l2 * at.bias));
}

template <Adds adds>
HD void count(const Side& side, std::uint32_t index, const Scalars& at, const Line& squares, int rank) {
  if (side.squares) put<adds>(side.squares + index, at.squares, at.squares + sum(squares) / float(rank));
}

template <int lines> struct Pair {
  Line p[lines], q[lines];
};

template <int lines> HD float dot(const Pair<lines>& pair) {
  Line sums = product(pair.p[0], pair.q[0]);
  for (int i = 1; i < lines; ++i) add(sums, product(pair.p[i], pair.q[i]));
  return sum(sums);
}

// Moves one line of a row, and adds the gradient's squares to `squares` where they are wanted.
template <class Access>
HD void move(typename Access::Element* at, const Line& x, const Line& gradient, const Scalars& scalars,
             const Bits& random, Line* squares) {
  if (squares) add(*squares, product(gradient, gradient));
  Access::store(at, x, moved(x, scalars.rate, gradient), random);
}

template <class Access, Adds adds, int lines>
HD void visit_one(const Model& model, const Rating& rating, Dice& dice, double& squares) {
  auto *p = row<Access>(model.users, rating.user, lines), *q = row<Access>(model.items, rating.item, lines);
  Pair<lines> pair;
  for (int i = 0; i < lines; ++i)
    pair.p[i] = Access::load(p + i * line), pair.q[i] = Access::load(q + i * line);
  const Scalars u = scalars(model.users, rating.user, model.rate),
                v = scalars(model.items, rating.item, model.rate);
  const float e = rating.value - ((u.bias + v.bias) + dot(pair));
  const bool counts = model.users.squares != nullptr;
  Line of_p{}, of_q{};
  for (int i = 0; i < lines; ++i) {
    Bits random{};
    if constexpr (Access::rounds) random = dice.roll();
    const Line &x = pair.p[i], &y = pair.q[i];
    move<Access>(p + i * line, x, downhill(e, y, u.l2, x), u, low(random), counts ? &of_p : nullptr);
    move<Access>(q + i * line, y, downhill(e, x, v.l2, y), v, high(random), counts ? &of_q : nullptr);
  }
  count<adds>(model.users, rating.user, u, of_p, model.rank),
      count<adds>(model.items, rating.item, v, of_q, model.rank);
  move_bias<adds>(model.users, rating.user, u, e), move_bias<adds>(model.items, rating.item, v, e);
  squares += double(e) * e;
}

template <class Access, Adds adds, int lines>
void visit(const Model& model, const Rating* begin, const Rating* end, const Rating* last, Visitor& visitor) {
  Dice dice(visitor);
  double squares = 0;
  for (const Rating* r = begin; r < end; ++r) {
    if (last - r > ahead) fetch<Access, lines>(model, r[ahead]);
    visit_one<Access, adds, lines>(model, *r, dice, squares);
  }
  dice.keep(visitor);
  visitor.squares += squares;
}

template <class Single, class Half, Adds adds, int... i>
constexpr Visits visits_of(const char* name, std::integer_sequence<int, i...>) {
  if constexpr (adds == Adds::exact)
    return {name, {{visit<Single, adds, i + 1>...}, {}}};
  else
    return {name, {{visit<Single, adds, i + 1>...}, {visit<Half, adds, i + 1>...}}};
}

}  // namespace
}  // namespace loosestep::factors
