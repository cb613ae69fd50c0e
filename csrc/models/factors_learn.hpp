// A factorization machine's example: one source for every instruction set and kind of access.
#pragma once

#include <utility>

#include "models/factors_line.hpp"
#include "models/factors_machine.hpp"

namespace loosestep::factors {
namespace {

// What an example's features add up to.
template <int lines> struct Sums {
  Line s[lines] = {};
  Line squares = {};
  float linear = 0;
};

template <int lines> HD float* row(const Machine& machine, std::int32_t feature) {
  return machine.v + std::size_t(feature) * static_cast<std::size_t>(lines * line);
}

HD Line scaled(const Line& x, float by) {
  Line out;
  for (int i = 0; i < parts; ++i) out.part[i] = x.part[i] * by;
  return out;
}

template <class Access, int lines>
HD void gather(const Machine& machine, std::int32_t feature, float x, Sums<lines>& sums) {
  const float* v = row<lines>(machine, feature);
  for (int i = 0; i < lines; ++i) {
    Line part;
    Access::load(v + i * line, &part);
    part = scaled(part, x);
    add(sums.s[i], part);
    add(sums.squares, product(part, part));
  }
  sums.linear += relaxed(&machine.heads[feature].w) * x;
}

template <class Access, int lines>
HD Sums<lines> gathered(const Machine& machine, const Examples& examples, std::int64_t row) {
  Sums<lines> sums;
  for (std::int64_t j = examples.begin[row]; j < examples.begin[row + 1]; ++j)
    gather<Access, lines>(machine, examples.feature[j], examples.value[j], sums);
  return sums;
}

template <int lines> HD float predicted(const Sums<lines>& sums, float intercept) {
  Line pairs = product(sums.s[0], sums.s[0]);
  for (int i = 1; i < lines; ++i) add(pairs, product(sums.s[i], sums.s[i]));
  return intercept + sums.linear + 0.5f * (sum(pairs) - sum(sums.squares));
}

struct Slope {
  double loss;
  float g;  // dloss/dp
};

template <Loss loss> HD Slope slope(float p, float y) {
  if constexpr (loss == squared) return {0.5 * (double(p) - y) * (double(p) - y), p - y};
  const float margin = y * p, e = __builtin_expf(margin < 0 ? margin : -margin);  // of -|margin|: no overflow
  const float wrong = margin < 0 ? 1 / (1 + e) : e / (1 + e);
  return {__builtin_log1p(double(e)) - (margin < 0 ? double(margin) : 0.0), -y * wrong};
}

// AdaGrad's, with the gradient at hand in the sum: a first step is no longer than the rate, whatever the
// scale.
HD float own_rate(const Machine& machine, float* squares, float added) {
  if (!machine.adagrad) return machine.rate;
  const float after = relaxed(squares) + added;
  relax(squares, after);
  return machine.rate / root(after);
}

template <class Access, int lines>
HD void move_row(const Machine& machine, std::int32_t feature, float x, float g, const Sums<lines>& sums) {
  float* const v = row<lines>(machine, feature);
  Line old[lines], gradient[lines], squares{};
  for (int i = 0; i < lines; ++i) {
    Access::load(v + i * line, old + i);
    Line others = scaled(old[i], -x);
    add(others, sums.s[i]);
    gradient[i] = downhill(-g * x, others, machine.l2, old[i]);
    add(squares, product(gradient[i], gradient[i]));
  }
  const float rate = own_rate(machine, &machine.heads[feature].squares_v, sum(squares) / float(machine.rank));
  for (int i = 0; i < lines; ++i) {
    const Line after = moved(old[i], rate, gradient[i]);
    Access::store(v + i * line, old + i, &after);
  }
}

HD void move_linear(const Machine& machine, Head& head, float x, float g) {
  const float w = relaxed(&head.w), gradient = -g * x - machine.l2_linear * w;
  relax(&head.w, w + own_rate(machine, &head.squares_w, gradient * gradient) * gradient);
}

template <int lines> HD void fetch(const Machine& machine, const Examples& examples, std::int64_t row_) {
  for (std::int64_t j = examples.begin[row_]; j < examples.begin[row_ + 1]; ++j) {
    const float* const v = row<lines>(machine, examples.feature[j]);
    for (int i = 0; i < lines; ++i) __builtin_prefetch(v + i * line, 1);
    __builtin_prefetch(machine.heads + examples.feature[j], 1);
  }
}

template <class Access, Loss loss, int lines>
HD double learn_one(const Machine& machine, const Examples& examples, std::int64_t row, float& intercept) {
  const Sums<lines> sums = gathered<Access, lines>(machine, examples, row);
  const Slope at = slope<loss>(predicted(sums, intercept), examples.target[row]);
  const float weight = examples.weight ? examples.weight[row] : 1, g = weight * at.g;
  for (std::int64_t j = examples.begin[row]; j < examples.begin[row + 1]; ++j) {
    const float x = examples.value[j];
    move_row<Access, lines>(machine, examples.feature[j], x, g, sums);
    move_linear(machine, machine.heads[examples.feature[j]], x, g);
  }
  if (machine.intercept) intercept -= machine.rate * g;
  return weight * at.loss;
}

// Every example moves the intercept: a copy of the thread's own, whose change is added at the end.
template <class Access, Loss loss, int lines>
double learn(const Machine& machine, const Examples& examples, std::int64_t begin, std::int64_t end) {
  const float before = machine.intercept ? relaxed(machine.intercept) : 0;
  float intercept = before;
  double total = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    if (row + 1 < end) fetch<lines>(machine, examples, row + 1);
    total += learn_one<Access, loss, lines>(machine, examples, row, intercept);
  }
  if (machine.intercept) add_exactly(machine.intercept, before, intercept);
  return total;
}

template <class Access, int lines>
void score(const Machine& machine, const Examples& examples, std::int64_t begin, std::int64_t end,
           float* out) {
  const float intercept = machine.intercept ? relaxed(machine.intercept) : 0;
  for (std::int64_t row = begin; row < end; ++row)
    out[row] = predicted(gathered<Access, lines>(machine, examples, row), intercept);
}

template <class Access, int... i>
constexpr Machines machines_of(const char* name, std::integer_sequence<int, i...>) {
  return {name,
          {{learn<Access, squared, i + 1>...}, {learn<Access, logistic, i + 1>...}},
          {score<Access, i + 1>...}};
}

}  // namespace
}  // namespace loosestep::factors
