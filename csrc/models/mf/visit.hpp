// The visit of ratings: one source for every instruction set, storage and kind of access.
#pragma once

#include <utility>

#include "models/mf/model.hpp"
#include "models/simd/line.hpp"

namespace loosestep::mf {
namespace {

using namespace simd;

constexpr int prefetch_distance = 12;  // ratings

template <class Access, int lines>
constexpr int row_length = lines * line / Access::lines_per_access;  // elements

template <class Access, int lines> HD typename Access::Element* row(const Side& side, std::uint32_t index) {
  return static_cast<typename Access::Element*>(side.rows) + std::size_t(index) * row_length<Access, lines>;
}

template <class Access, int lines> HD void prefetch(const Model& model, const Rating& rating) {
  const auto *p = row<Access, lines>(model.users, rating.user),
             *q = row<Access, lines>(model.items, rating.item);
  for (int i = 0; i < row_length<Access, lines>; i += line)
    __builtin_prefetch(p + i, 1), __builtin_prefetch(q + i, 1);
}

// The numbers of a row other than its factors.
struct Scalars {
  float bias, l2, squares, rate;
};

HD Scalars scalars(const Side& side, std::uint32_t index, float rate) {
  Scalars out{0, side.l2_of ? side.l2_of[index] : side.l2, 1, rate};
  if (side.bias) out.bias = load_relaxed(side.bias + index);
  if (side.squares) {
    out.squares = load_relaxed(side.squares + index);
    out.rate = rate / root(out.squares);
  }
  return out;
}

template <Adds adds> HD void update_bias(const Side& side, std::uint32_t index, const Scalars& at, float e) {
  if (side.bias) store_scalar<adds>(side.bias + index, at.bias, at.bias + at.rate * (e - at.l2 * at.bias));
}

template <Adds adds>
HD void add_squares(const Side& side, std::uint32_t index, const Scalars& at, const Line& squares, int rank) {
  if (side.squares)
    store_scalar<adds>(side.squares + index, at.squares, at.squares + sum(squares) / float(rank));
}

template <int lines> struct Pair {
  Line p[lines], q[lines];
};

template <int lines> HD float dot(const Pair<lines>& pair) {
  Line sums = product(pair.p[0], pair.q[0]);
  for (int i = 1; i < lines; ++i) add(sums, product(pair.p[i], pair.q[i]));
  return sum(sums);
}

template <class Access, int lines> HD void load(const typename Access::Element* at, Line* out) {
  for (int i = 0; i < lines; i += Access::lines_per_access)
    Access::load(at + row_length<Access, 1> * i, out + i);
}

// Update the row x, with y the row of the other side; return the squares of the gradient if `counts`.
template <class Access, int lines>
HD Line update_row(typename Access::Element* at, const Line* x, float e, const Line* y, const Scalars& own,
                   bool counts, [[maybe_unused]] XorShift& noise) {
  Line squares{};
  for (int i = 0; i < lines; i += Access::lines_per_access) {
    Line after[Access::lines_per_access];
    for (int k = 0; k < Access::lines_per_access; ++k) {
      const Line gradient = descent(e, y[i + k], own.l2, x[i + k]);
      if (counts) add(squares, product(gradient, gradient));
      after[k] = stepped(x[i + k], own.rate, gradient);
    }
    if constexpr (Access::lines_per_access == 1)
      Access::store(at + i * line, x + i, after);
    else
      Access::store(at + row_length<Access, 1> * i, after, noise.next());
  }
  return squares;
}

template <class Access, Adds adds, int lines>
HD void visit_one(const Model& model, const Rating& rating, XorShift& noise, double& squares) {
  auto *p = row<Access, lines>(model.users, rating.user), *q = row<Access, lines>(model.items, rating.item);
  Pair<lines> pair;
  load<Access, lines>(p, pair.p), load<Access, lines>(q, pair.q);
  const Scalars u = scalars(model.users, rating.user, model.rate),
                v = scalars(model.items, rating.item, model.rate);
  const float off = rating.value - ((u.bias + v.bias) + dot(pair)), e = rating.weight * off;
  const bool counts = model.users.squares != nullptr;
  const Line of_p = update_row<Access, lines>(p, pair.p, e, pair.q, u, counts, noise);
  const Line of_q = update_row<Access, lines>(q, pair.q, e, pair.p, v, counts, noise);
  add_squares<adds>(model.users, rating.user, u, of_p, model.rank);
  add_squares<adds>(model.items, rating.item, v, of_q, model.rank);
  update_bias<adds>(model.users, rating.user, u, e), update_bias<adds>(model.items, rating.item, v, e);
  squares += double(e) * off;
}

template <class Access, Adds adds, int lines>
void visit(const Model& model, const Rating* begin, const Rating* end, const Rating* last,
           ThreadState& thread_state) {
  XorShift noise(thread_state.random);
  double squares = 0;
  for (const Rating* r = begin; r < end; ++r) {
    if (last - r > prefetch_distance) prefetch<Access, lines>(model, r[prefetch_distance]);
    visit_one<Access, adds, lines>(model, *r, noise, squares);
  }
  noise.save(thread_state.random);
  thread_state.sums.squares += squares;
  thread_state.sums.ratings += static_cast<std::uint64_t>(end - begin);
}

// Rows of bfloat16 have an even number of lines; there are no exact adds for them.
template <class Access, Adds adds, int lines> constexpr VisitKernel kernel_of() {
  if constexpr (lines % Access::lines_per_access == 0 &&
                (adds == Adds::racy || Access::lines_per_access == 1))
    return visit<Access, adds, lines>;
  else
    return nullptr;
}

template <class Single, class Double, Adds adds, int... i>
constexpr KernelTable make_table(const char* name, std::integer_sequence<int, i...>) {
  return {name, {{kernel_of<Single, adds, i + 1>()...}, {kernel_of<Double, adds, i + 1>()...}}};
}

}  // namespace
}  // namespace loosestep::mf
