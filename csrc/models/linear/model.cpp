// Chooses the loop for the options of an epoch and runs it in every thread.
#include "models/linear/model.hpp"

#include <cmath>

#include "models/linear/pass.hpp"

namespace loosestep::models {

LinearModel::LinearModel(std::size_t places, std::size_t head_places, std::size_t outputs, int threads,
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

float LinearModel::at(std::size_t element) const {
  if (element < head.size()) return head.center()[element];
  const std::size_t i = element - head.size();
  return precision == Precision::float32 ? tail32[i] : StochasticBfloat16::to_float(tail16[i]);
}

void LinearModel::set(std::size_t element, float value) {
  if (value != 0) reach = std::max(reach, element / outputs + 1);
  if (element < head.size())
    head.center()[element] = value;
  else if (precision == Precision::float32)
    tail32[element - head.size()] = value;
  else
    tail16[element - head.size()] = StochasticBfloat16(Random(element)).from_float(value);
}

namespace {

struct Job {
  LinearModel& model;
  const Rows& rows;
  const EpochOptions& options;
  EpochState& state;
  int thread;
};

template <class Cells, bool adagrad, bool per_touch, class Watch>
EpochStats pass(const Job& job, typename Cells::Stored* tail, Watch watch) {
  const auto run = [&]<bool several>() {
    return Pass<Cells, adagrad, per_touch, several, Watch>(job.model, tail, job.rows, job.options, job.state,
                                                           job.thread, std::move(watch))
        .run();
  };
  return job.model.outputs > 1 ? run.template operator()<true>() : run.template operator()<false>();
}

template <class Cells, class Watch>
EpochStats pass_of(const Job& job, typename Cells::Stored* tail, Watch watch) {
  const bool per_touch = job.options.per_touch != nullptr;
  if (job.options.adagrad)
    return per_touch ? pass<Cells, true, true>(job, tail, watch) : pass<Cells, true, false>(job, tail, watch);
  return per_touch ? pass<Cells, false, true>(job, tail, watch) : pass<Cells, false, false>(job, tail, watch);
}

template <class Precision> EpochStats pass_on(const Job& job, typename Precision::Stored* tail) {
  if (job.options.diagnose)
    return pass_of<ExactCells<Precision>>(job, tail, ConflictWatch(job.state.counters, job.thread));
  if (job.options.adds == Adds::exact) return pass_of<ExactCells<Precision>>(job, tail, NoConflictWatch());
  return pass_of<RacyCells<Precision>>(job, tail, NoConflictWatch());
}

EpochStats run(const Job& job) {
  LinearModel& model = job.model;
  return model.precision == Precision::float32 ? pass_on<Float32>(job, model.tail32.data())
                                               : pass_on<StochasticBfloat16>(job, model.tail16.data());
}

void add(EpochStats& all, const EpochStats& one) {
  all.loss += one.loss, all.measured += one.measured, all.examples += one.examples, all.sweeps += one.sweeps;
  all.retried += one.retried, all.updates += one.updates, all.clipped += one.clipped;
  all.conflicts.examples += one.conflicts.examples, all.conflicts.coordinates += one.conflicts.coordinates;
  all.conflicts.conflicts += one.conflicts.conflicts;
  for (std::size_t k = 0; k < all.conflicts.staleness.size(); ++k)
    all.conflicts.staleness[k] += one.conflicts.staleness[k];
  all.conflicts.places.insert(all.conflicts.places.end(), one.conflicts.places.begin(),
                              one.conflicts.places.end());
}

bool all_finite(const LinearModel& model) {
  for (std::size_t element = 0; element < model.head.size() + model.reached(); ++element)
    if (!std::isfinite(model.at(element))) return false;
  return true;
}

}  // namespace

EpochStats epoch(LinearModel& model, const Rows& rows, const EpochOptions& options,
                 const std::function<bool()>& stop) {
  model.reach = std::max(model.reach, rows.reach);
  model.head.begin(model.reach * model.outputs);
  model.head_squares.begin(model.reach * model.outputs);
  EpochState state(model.threads, options.discipline);
  std::vector<EpochStats> per_thread(std::size_t(model.threads));
  state.team.run(
      model.threads,
      [&](int thread) { per_thread[std::size_t(thread)] = run({model, rows, options, state, thread}); },
      stop);
  EpochStats all;
  for (const EpochStats& one : per_thread) add(all, one);
  all.finite = all_finite(model);
  return all;
}

}  // namespace loosestep::models
