// Chooses the loop for what is asked, and runs it in every thread.
#include "models/linear.hpp"

#include <cmath>

#include "models/pass.hpp"

namespace loosestep::models {

Weights::Weights(std::size_t places, std::size_t head_places, std::size_t outputs, int threads,
                 Precision precision, bool adagrad, bool average)
    : places(places),
      outputs(outputs),
      threads(threads),
      precision(precision),
      head(head_places * outputs, outputs, threads),
      head_squares(adagrad ? head.size() : 0, 0, threads),
      tail32(precision == Precision::float32 ? tail() : 0),
      squares(adagrad ? tail() : 0),
      tail16(precision == Precision::bfloat16 ? tail() : 0),
      average(average ? size() : 0),
      averaged(std::size_t(threads)) {}

float Weights::at(std::size_t element) const {
  if (element < head.size()) return head.center()[element];
  const std::size_t i = element - head.size();
  return precision == Precision::float32 ? tail32[i] : Rounded::widen(tail16[i]);
}

void Weights::set(std::size_t element, float value) {
  if (value != 0) reach = std::max(reach, element / outputs + 1);
  if (element < head.size())
    head.center()[element] = value;
  else if (precision == Precision::float32)
    tail32[element - head.size()] = value;
  else
    tail16[element - head.size()] = Rounded(Random(element)).narrow(value);
}

namespace {

struct Job {
  Weights& weights;
  const Rows& rows;
  const Training& training;
  Shop& shop;
  int thread;
};

template <class Cells, bool adagrad, bool per_touch, class Watch>
Told pass(const Job& job, typename Cells::Stored* tail, Watch watch) {
  const auto run = [&]<bool several>() {
    return Pass<Cells, adagrad, per_touch, several, Watch>(job.weights, tail, job.rows, job.training,
                                                           job.shop, job.thread, std::move(watch))
        .run();
  };
  return job.weights.outputs > 1 ? run.template operator()<true>() : run.template operator()<false>();
}

template <class Cells, class Watch> Told pass_of(const Job& job, typename Cells::Stored* tail, Watch watch) {
  const bool per_touch = job.training.per_touch != nullptr;
  if (job.training.adagrad)
    return per_touch ? pass<Cells, true, true>(job, tail, watch) : pass<Cells, true, false>(job, tail, watch);
  return per_touch ? pass<Cells, false, true>(job, tail, watch) : pass<Cells, false, false>(job, tail, watch);
}

template <class Precision> Told pass_on(const Job& job, typename Precision::Stored* tail) {
  if (job.training.diagnose)
    return pass_of<Exact<Precision>>(job, tail, Watched(job.shop.clocks, job.thread));
  if (job.training.adds == Adds::exact) return pass_of<Exact<Precision>>(job, tail, Unwatched());
  return pass_of<Racy<Precision>>(job, tail, Unwatched());
}

Told run(const Job& job) {
  Weights& weights = job.weights;
  return weights.precision == Precision::float32 ? pass_on<Whole>(job, weights.tail32.data())
                                                 : pass_on<Rounded>(job, weights.tail16.data());
}

void add(Told& all, const Told& one) {
  all.loss += one.loss, all.measured += one.measured, all.examples += one.examples, all.sweeps += one.sweeps;
  all.retried += one.retried, all.updates += one.updates, all.cut += one.cut;
  all.seen.examples += one.seen.examples, all.seen.coordinates += one.seen.coordinates;
  all.seen.conflicts += one.seen.conflicts;
  for (std::size_t k = 0; k < all.seen.staleness.size(); ++k) all.seen.staleness[k] += one.seen.staleness[k];
  all.seen.places.insert(all.seen.places.end(), one.seen.places.begin(), one.seen.places.end());
}

bool all_finite(const Weights& weights) {
  for (std::size_t element = 0; element < weights.head.size() + weights.reached(); ++element)
    if (!std::isfinite(weights.at(element))) return false;
  return true;
}

}  // namespace

Told epoch(Weights& weights, const Rows& rows, const Training& training, const std::function<bool()>& stop) {
  weights.reach = std::max(weights.reach, rows.reach);
  weights.head.begin(weights.reach * weights.outputs);
  weights.head_squares.begin(weights.reach * weights.outputs);
  Shop shop(weights.threads, training.discipline);
  std::vector<Told> told(std::size_t(weights.threads));
  shop.crew.run(
      weights.threads,
      [&](int thread) { told[std::size_t(thread)] = run({weights, rows, training, shop, thread}); }, stop);
  Told all;
  for (const Told& one : told) add(all, one);
  all.finite = all_finite(weights);
  return all;
}

}  // namespace loosestep::models
