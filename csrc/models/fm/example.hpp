// Training and scoring of examples by a factorization machine: one source for every instruction set and kind
// of access.
#pragma once

#include <utility>

#include "models/fm/model.hpp"
#include "models/simd/line.hpp"

namespace loosestep::fm {
namespace {

using namespace simd;

// The sums over an example's features.
template <int lines> struct Sums {
  Line s[lines] = {};
  Line squares = {};
  float linear = 0;
};

template <int lines> HD float* row(const Model& model, std::int32_t feature) {
  return model.v + std::size_t(feature) * static_cast<std::size_t>(lines * line);
}

HD Line scaled(const Line& x, float by) {
  Line out;
  for (int i = 0; i < parts; ++i) out.part[i] = x.part[i] * by;
  return out;
}

template <class Access, int lines>
HD void accumulate(const Model& model, std::int32_t feature, float x, Sums<lines>& sums) {
  const float* v = row<lines>(model, feature);
  for (int i = 0; i < lines; ++i) {
    Line part;
    Access::load(v + i * line, &part);
    part = scaled(part, x);
    add(sums.s[i], part);
    add(sums.squares, product(part, part));
  }
  sums.linear += load_relaxed(&model.states[feature].w) * x;
}

template <class Access, int lines>
HD Sums<lines> feature_sums(const Model& model, const Examples& examples, std::int64_t row) {
  Sums<lines> sums;
  for (std::int64_t j = examples.begin[row]; j < examples.begin[row + 1]; ++j)
    accumulate<Access, lines>(model, examples.feature[j], examples.value[j], sums);
  return sums;
}

template <int lines> HD float predicted(const Sums<lines>& sums, float intercept) {
  Line pairs = product(sums.s[0], sums.s[0]);
  for (int i = 1; i < lines; ++i) add(pairs, product(sums.s[i], sums.s[i]));
  return intercept + sums.linear + 0.5f * (sum(pairs) - sum(sums.squares));
}

struct Slope {
  double loss;
  float g;  // d loss / d p
};

template <Loss loss> HD Slope slope(float p, float y) {
  if constexpr (loss == squared) return {0.5 * (double(p) - y) * (double(p) - y), p - y};
  // exp(-|margin|) does not overflow
  const float margin = y * p, e = __builtin_expf(margin < 0 ? margin : -margin);
  const float wrong = margin < 0 ? 1 / (1 + e) : e / (1 + e);
  return {__builtin_log1p(double(e)) - (margin < 0 ? double(margin) : 0.0), -y * wrong};
}

// Return the step size. AdaGrad's sum already contains this gradient, so a first step is no longer than the
// rate for any scale of the features.
HD float adagrad_rate(const Model& model, float* squares, float added) {
  if (!model.adagrad) return model.rate;
  const float after = load_relaxed(squares) + added;
  store_relaxed(squares, after);
  return model.rate / root(after);
}

template <class Access, int lines>
HD void update_row(const Model& model, std::int32_t feature, float x, float g, const Sums<lines>& sums) {
  float* const v = row<lines>(model, feature);
  Line old[lines], gradient[lines], squares{};
  for (int i = 0; i < lines; ++i) {
    Access::load(v + i * line, old + i);
    Line others = scaled(old[i], -x);
    add(others, sums.s[i]);
    gradient[i] = descent(-g * x, others, model.l2, old[i]);
    add(squares, product(gradient[i], gradient[i]));
  }
  const float rate = adagrad_rate(model, &model.states[feature].squares_v, sum(squares) / float(model.rank));
  for (int i = 0; i < lines; ++i) {
    const Line after = stepped(old[i], rate, gradient[i]);
    Access::store(v + i * line, old + i, &after);
  }
}

HD void update_linear(const Model& model, FeatureState& head, float x, float g) {
  const float w = load_relaxed(&head.w), gradient = -g * x - model.l2_linear * w;
  store_relaxed(&head.w, w + adagrad_rate(model, &head.squares_w, gradient * gradient) * gradient);
}

template <int lines> HD void prefetch(const Model& model, const Examples& examples, std::int64_t row_) {
  for (std::int64_t j = examples.begin[row_]; j < examples.begin[row_ + 1]; ++j) {
    const float* const v = row<lines>(model, examples.feature[j]);
    for (int i = 0; i < lines; ++i) __builtin_prefetch(v + i * line, 1);
    __builtin_prefetch(model.states + examples.feature[j], 1);
  }
}

template <class Access, Loss loss, int lines>
HD double learn_one(const Model& model, const Examples& examples, std::int64_t row, float& intercept) {
  const Sums<lines> sums = feature_sums<Access, lines>(model, examples, row);
  const Slope at = slope<loss>(predicted(sums, intercept), examples.target[row]);
  const float weight = examples.weight ? examples.weight[row] : 1, g = weight * at.g;
  for (std::int64_t j = examples.begin[row]; j < examples.begin[row + 1]; ++j) {
    const float x = examples.value[j];
    update_row<Access, lines>(model, examples.feature[j], x, g, sums);
    update_linear(model, model.states[examples.feature[j]], x, g);
  }
  if (model.intercept) intercept -= model.rate * g;
  return weight * at.loss;
}

// Every example updates the intercept: each thread has a copy and adds its change at the end.
template <class Access, Loss loss, int lines>
double learn(const Model& model, const Examples& examples, std::int64_t begin, std::int64_t end) {
  const float before = model.intercept ? load_relaxed(model.intercept) : 0;
  float intercept = before;
  double total = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    if (row + 1 < end) prefetch<lines>(model, examples, row + 1);
    total += learn_one<Access, loss, lines>(model, examples, row, intercept);
  }
  if (model.intercept) add_exactly(model.intercept, before, intercept);
  return total;
}

template <class Access, int lines>
void score(const Model& model, const Examples& examples, std::int64_t begin, std::int64_t end, float* out) {
  const float intercept = model.intercept ? load_relaxed(model.intercept) : 0;
  for (std::int64_t row = begin; row < end; ++row)
    out[row] = predicted(feature_sums<Access, lines>(model, examples, row), intercept);
}

template <class Access, int... i>
constexpr KernelTable make_table(const char* name, std::integer_sequence<int, i...>) {
  return {name,
          {{learn<Access, squared, i + 1>...}, {learn<Access, logistic, i + 1>...}},
          {score<Access, i + 1>...}};
}

}  // namespace
}  // namespace loosestep::fm
