// Trains linear models from several threads on the scalar path, which is the only one there is: every kind of
// cell, discipline and head; tests/native/stress/sanitize.sh builds it under the sanitizers. Checks sums that no
// order changes.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cpu/memory.cpp"
#include "models/linear/model.cpp"
#include "models/linear/prepare.cpp"
#include "stress.hpp"

using namespace loosestep::models;

namespace {

constexpr std::size_t features = 40;

struct Data {
  std::vector<std::int64_t> starts{0};
  std::vector<std::int32_t> columns;
  std::vector<float> values, targets;
  std::vector<std::uint32_t> places;

  explicit Data(std::size_t rows, std::size_t classes) : places(features) {
    for (std::size_t j = 0; j < features; ++j) places[j] = std::uint32_t(j + 1);
    Random random(7);
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::uint32_t j = random.below(4); j < features; j += 1 + random.below(8))
        columns.push_back(std::int32_t(j)), values.push_back(1);
      starts.push_back(std::int64_t(columns.size()));
      targets.push_back(classes > 1 ? float(random.below(std::uint32_t(classes))) : 1e9f);
    }
  }

  Source source() const {
    Source source;
    source.count = targets.size(), source.features = features, source.entries = columns.size();
    source.starts = starts.data();
    source.columns = columns.data(), source.values = values.data(), source.targets = targets.data();
    return source;
  }
};

std::string name_of(const EpochOptions& options, std::size_t head, Precision precision) {
  return "head " + std::to_string(head) + ", discipline " + std::to_string(int(options.discipline)) +
         ", adds " + std::to_string(int(options.adds)) + ", precision " + std::to_string(int(precision));
}

// With huber at far targets every row adds 1 to each of its features: exact adds of whole numbers lose
// nothing.
void check_sums(const Data& data, const LinearModel& weights, const std::string& what) {
  std::vector<float> sums(features + 1);
  for (const std::int32_t column : data.columns) ++sums[std::size_t(column) + 1];
  for (std::size_t place = weights.head.size(); place < weights.places; ++place)
    if (place > 0)
      ::check(weights.at(place) == sums[place], what.c_str(), int(place), long(weights.at(place)));
}

void train(const Data& data, std::size_t head, std::size_t outputs, Precision precision,
           EpochOptions options) {
  constexpr int threads = 3;
  const PreparedRows prepared(data.source(), data.places.data(), std::uint32_t(head), outputs, threads, 1);
  LinearModel weights(features + 1, head, outputs, threads, precision, options.adagrad, options.average);
  const EpochStats stats = epoch(weights, prepared.rows(), options, [] { return false; });
  ::check(stats.examples == data.targets.size(), "every row is visited once", 0, long(stats.examples));
  const bool exact = options.adds == Adds::exact || options.discipline != Discipline::free;
  if (outputs == 1 && exact && precision == Precision::float32 && !options.adagrad)
    check_sums(data, weights, name_of(options, head, precision));
}

void all_of(const Data& data, std::size_t outputs, LossKind loss) {
  for (const std::size_t head : {std::size_t(0), std::size_t(9), features + 1})
    for (const Precision precision : {Precision::float32, Precision::bfloat16})
      for (const Discipline discipline : {Discipline::free, Discipline::locked, Discipline::turns})
        for (const int more : {0, 1, 2, 3, 4}) {
          EpochOptions options;
          options.loss.kind = loss, options.loss.epsilon = 1, options.rate.eta0 = 1, options.period = 50;
          options.discipline = discipline, options.adds = more == 1 ? Adds::exact : Adds::racy;
          options.adagrad = more == 2, options.diagnose = more == 3, options.average = more == 4;
          options.deterministic = discipline == Discipline::free && head > features && more == 0;
          if (more == 3) options.adds = Adds::exact;
          train(data, head, outputs, precision, options);
        }
}

}  // namespace

int main(int count, char** words) {
  const auto scale = std::size_t(count > 1 ? std::atoi(words[1]) : 1);
  all_of(Data(2000 * scale, 1), 1, LossKind::huber);
  all_of(Data(600 * scale, 3), 3, LossKind::softmax);
  all_of(Data(600 * scale, 3), 3, LossKind::logistic);
  std::puts("models: every row visited, no exact sum changed");
}
