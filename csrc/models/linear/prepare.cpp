#include "models/linear/prepare.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "models/threads/even_split.hpp"
#include "models/threads/random.hpp"
#include "models/threads/thread_team.hpp"

namespace loosestep::models {
namespace {

// Call f with the columns and values of `source` in their types.
template <class F> void typed(const Source& source, F f) {
  const auto with_columns = [&](const auto* columns) {
    if (source.wide_values)
      f(columns, static_cast<const double*>(source.values));
    else
      f(columns, static_cast<const float*>(source.values));
  };
  if (source.wide_columns)
    with_columns(static_cast<const std::int64_t*>(source.columns));
  else
    with_columns(static_cast<const std::int32_t*>(source.columns));
}

template <class F> void in_threads(int threads, F f) {
  ThreadTeam team;
  team.run(threads, f, [] { return false; });
}

template <class Column, class Value>
std::string entry_error(const Source& source, Column column, Value value) {
  if (column < 0 || std::size_t(column) >= source.features)
    return "has feature " + std::to_string(column) + ", and there are " + std::to_string(source.features);
  if (!std::isfinite(float(value))) return "holds a value that float32 cannot (nan, infinite or too large)";
  return {};
}

// The first entry of a row and their number, read once: another thread may write to that memory.
struct Range {
  std::int64_t begin, size;
};

Range range_of(const Source& source, std::size_t row) {
  const std::int64_t begin = source.starts[row], end = source.starts[row + 1];
  if (begin < 0 || end < begin || end > std::int64_t(source.entries)) throw RowsChanged();
  return {begin, end - begin};
}

}  // namespace

InvalidRow count_features(const Source& source, int threads, std::uint32_t* counts) {
  InvalidRow first;
  std::mutex mutex;
  in_threads(threads, [&](int thread) {
    std::vector<std::uint32_t> mine(source.features);
    typed(source, [&](const auto* columns, const auto* values) {
      for (std::size_t row = split_begin(source.count, thread, threads);
           row < split_begin(source.count, thread + 1, threads); ++row) {
        const auto [begin, size] = range_of(source, row);
        for (std::int64_t k = begin; k < begin + size; ++k) {
          const auto column = columns[k];
          if (const std::string what = entry_error(source, column, values[k]); !what.empty()) {
            const std::lock_guard lock(mutex);
            if (first.row < 0 || std::int64_t(row) < first.row) first = {std::int64_t(row), what};
            return;
          }
          ++mine[std::size_t(column)];
        }
      }
    });
    const std::lock_guard lock(mutex);
    for (std::size_t j = 0; j < mine.size(); ++j) counts[j] += mine[j];
  });
  return first;
}

PreparedRows::PreparedRows(const Source& source, const std::uint32_t* places, std::uint32_t head,
                           std::size_t outputs, int threads, std::uint64_t seed)
    : count_(source.count),
      starts_(count_ + 1),
      heads_(count_),
      places_(source.entries),
      values_(places_.size()),
      targets_(count_),
      weights_(source.weights ? count_ : 0),
      coupling_(head * outputs) {
  const std::vector<std::uint32_t> order = random_permutation(std::uint32_t(count_), Random(seed));
  for (std::size_t i = 0; i < count_; ++i) starts_[i + 1] = starts_[i] + range_of(source, order[i]).size;
  const bool nowhere = source.entries > 0 && source.features == 0;
  if (starts_[count_] != std::int64_t(source.entries) || nowhere) throw RowsChanged();
  lay_out(source, places, head, threads, order);
  for (std::size_t k = 0; k < places_.size(); ++k) reach_ = std::max(reach_, std::size_t(places_[k]) + 1);
  if (head > 0) measure_coupling(outputs, threads);
}

void PreparedRows::lay_out(const Source& source, const std::uint32_t* places, std::uint32_t head, int threads,
                           const std::vector<std::uint32_t>& order) {
  const auto lay_row = [&](std::size_t i, const auto* columns, const auto* values,
                           std::vector<std::uint32_t>& found) {
    const auto [begin, size] = range_of(source, order[i]);
    if (size != starts_[i + 1] - starts_[i]) throw RowsChanged();
    std::uint32_t* const own = places_.data() + starts_[i];
    float* const into = values_.data() + starts_[i];
    std::uint32_t in_head = 0;
    bool inside = true;  // checked once per row: a branch per entry is slower
    for (std::int64_t k = 0; k < size; ++k) {
      const std::size_t column = static_cast<std::size_t>(columns[begin + k]);
      inside &= column < source.features;
      own[k] = places[std::min(column, source.features - 1)], into[k] = float(values[begin + k]);
      in_head += own[k] < head;
    }
    if (!inside) throw RowsChanged();
    heads_[i] = in_head;
    if (in_head > 0 && in_head < size) {
      found.assign(own, own + size);
      std::int64_t front = 0, behind = in_head;
      for (std::int64_t k = 0; k < size; ++k) {
        const std::int64_t at = found[std::size_t(k)] < head ? front++ : behind++;
        own[at] = found[std::size_t(k)], into[at] = float(values[begin + k]);
      }
    }
    targets_[i] = source.targets[order[i]];
    if (source.weights) weights_[i] = source.weights[order[i]];
  };
  in_threads(threads, [&](int thread) {
    std::vector<std::uint32_t> found;  // the places of a row
    typed(source, [&](const auto* columns, const auto* values) {
      for (std::size_t i = split_begin(count_, thread, threads); i < split_begin(count_, thread + 1, threads);
           ++i) {
        const std::int64_t soon = source.starts[order[std::min(i + 4, count_ - 1)]];
        __builtin_prefetch(columns + soon), __builtin_prefetch(values + soon);
        lay_row(i, columns, values, found);
      }
    });
  });
}

void PreparedRows::measure_coupling(std::size_t outputs, int threads) {
  const std::size_t head = coupling_.size() / outputs;
  std::vector<std::vector<float>> sums(static_cast<std::size_t>(threads), std::vector<float>(head));
  in_threads(threads, [&](int thread) {
    std::vector<float>& mine = sums[static_cast<std::size_t>(thread)];
    const Rows all = rows();
    for (std::size_t i = split_begin(count_, thread, threads); i < split_begin(count_, thread + 1, threads);
         ++i) {
      const Row row = all.row(i);
      float length = 1;  // of the intercept
      for (std::uint32_t k = 0; k < row.size; ++k) length += std::abs(row.values[k]);
      mine[0] += length;
      for (std::uint32_t k = 0; k < row.head; ++k) mine[row.places[k]] += std::abs(row.values[k]) * length;
    }
  });
  for (const std::vector<float>& each : sums)  // in the order of threads: the same bits every time
    for (std::size_t element = 0; element < coupling_.size(); ++element)
      coupling_[element] += each[element / outputs] / float(count_);
}

Rows PreparedRows::rows() const {
  return {count_,         reach_,          starts_.data(),  heads_.data(),   places_.data(),
          values_.data(), targets_.data(), weights_.data(), coupling_.data()};
}

}  // namespace loosestep::models
