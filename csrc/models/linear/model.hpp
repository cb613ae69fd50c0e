// A linear model that several threads train at once: p_o = w_0o + sum_j w_jo x_j, for one output or several.
// Place 0 is the intercept, the other places are features in any order. Places below the head's size have a
// copy in every thread (head.hpp), the rest is shared without locks. A place has an element for each output.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "models/linear/conflict_stats.hpp"
#include "models/linear/head.hpp"
#include "models/linear/losses.hpp"
#include "models/linear/rows.hpp"
#include "models/linear/update_order.hpp"
#include "models/threads/aligned_array.hpp"
#include "rules/rates.hpp"

namespace loosestep::models {

using loosestep::Rate, loosestep::Schedule;

enum class Precision { float32, bfloat16 };
enum class Adds { racy, exact };

struct EpochOptions {
  Loss loss;
  Rate rate;
  double l2 = 0, l1 = 0;
  // by place: l2 divided by the fraction of rows with the feature; null: l2 in sweeps
  const float* per_touch = nullptr;
  float intercept_step = 1;  // a factor of the step size; 0: no intercept
  bool adagrad = false, deterministic = false, diagnose = false, average = false;
  Adds adds = Adds::racy;
  Discipline discipline = Discipline::free;
  std::uint64_t seed = 0, epoch = 0, steps = 0;  // steps: of all threads before this epoch
  std::uint64_t period = 4096;                   // examples of a thread between two merges of the head
  std::uint64_t tail_every = 1;                  // merges between two sweeps of the tail
  std::uint32_t measure = 1;                     // compute the loss of every n-th row
};

// The statistics of an epoch, or of one thread in it.
struct EpochStats {
  double loss = 0;
  std::uint64_t measured = 0, examples = 0, sweeps = 0, retried = 0, updates = 0, clipped = 0;
  bool finite = true;
  ConflictStats conflicts;
};

// The parameters of a linear model and the optimizer's state.
struct LinearModel {
  LinearModel(std::size_t places, std::size_t head, std::size_t outputs, int threads, Precision precision,
              bool adagrad, bool average);

  std::size_t size() const { return places * outputs; }
  std::size_t tail() const { return size() - head.size(); }
  std::size_t reached() const { return std::max(reach * outputs, head.size()) - head.size(); }  // of the tail
  float at(std::size_t element) const;
  void set(std::size_t element, float value);

  std::size_t places, outputs;
  std::size_t reach = 1;  // places from here were never updated: they are 0
  int threads;
  Precision precision;
  Head head, head_squares;  // AdaGrad's sums of squares, like the weights
  AlignedArray<float> tail32, squares;
  AlignedArray<std::uint16_t> tail16;
  AlignedArray<float> average;
  std::vector<std::uint64_t> averaged;  // by thread: iterates in its part of the average
};

// Train every thread on its part of the rows. `stop` is called from time to time in the calling thread.
EpochStats epoch(LinearModel& model, const Rows& rows, const EpochOptions& options,
                 const std::function<bool()>& stop);

}  // namespace loosestep::models
