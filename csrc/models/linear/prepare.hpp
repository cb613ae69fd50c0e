// Copies sparse rows into the layout of the engine: shuffled once, features renumbered, entries of the head
// first.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/linear/rows.hpp"
#include "models/threads/aligned_array.hpp"

namespace loosestep::models {

// Compressed sparse rows of the caller.
struct Source {
  std::size_t count = 0, features = 0, entries = 0;
  const std::int64_t* starts = nullptr;
  const void* columns = nullptr;
  bool wide_columns = false;  // int64, else int32
  const void* values = nullptr;
  bool wide_values = false;  // float64, else float32
  const float* targets = nullptr;
  const float* weights = nullptr;
};

// The first invalid row (or -1) and what is wrong with it.
struct InvalidRow {
  std::int64_t row = -1;
  std::string what;
};

// Thrown where another thread writes to the rows. Nothing is read or written out of bounds.
struct RowsChanged : std::runtime_error {
  RowsChanged()
      : std::runtime_error("the rows changed while they were read: no other thread may write to them") {}
};

// Count the rows that have each feature, in several threads; return the first invalid row. `counts` has room
// for all features.
InvalidRow count_features(const Source& source, int threads, std::uint32_t* counts);

class PreparedRows {
 public:
  // places[j]: the place of feature j in the model, from 1; places below `head` come first in a row.
  PreparedRows(const Source& source, const std::uint32_t* places, std::uint32_t head, std::size_t outputs,
               int threads, std::uint64_t seed);

  Rows rows() const;
  std::size_t entries() const { return places_.size(); }

 private:
  void lay_out(const Source& source, const std::uint32_t* places, std::uint32_t head, int threads,
               const std::vector<std::uint32_t>& order);
  void measure_coupling(std::size_t outputs, int threads);

  std::size_t count_, reach_ = 1;
  AlignedArray<std::int64_t> starts_;
  AlignedArray<std::uint32_t> heads_, places_;
  AlignedArray<float> values_, targets_, weights_, coupling_;
};

}  // namespace loosestep::models
