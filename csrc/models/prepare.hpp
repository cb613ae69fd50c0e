// Lays sparse rows out for the engine: shuffled once, features in their places, entries of the head first.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/block.hpp"
#include "models/rows.hpp"

namespace loosestep::models {

// Compressed sparse rows as they come.
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

struct Problem {  // with a row: -1 where there is none
  std::int64_t row = -1;
  std::string what;
};

// Who reads rows while another thread writes them: nothing is read or written out of bounds.
struct Changed : std::runtime_error {
  Changed() : std::runtime_error("the rows changed while they were read: let no other thread write to them") {}
};

// How many rows hold each feature (counts has room for all features), in several threads.
Problem count_features(const Source& source, int threads, std::uint32_t* counts);

class Prepared {
 public:
  // places[j]: where feature j lies in the model, from 1 on; places below `head` come first in a row.
  Prepared(const Source& source, const std::uint32_t* places, std::uint32_t head, std::size_t outputs,
           int threads, std::uint64_t seed);

  Rows rows() const;
  std::size_t entries() const { return places_.size(); }

 private:
  void lay(const Source& source, const std::uint32_t* places, std::uint32_t head, int threads,
           const std::vector<std::uint32_t>& order);
  void couple(std::size_t outputs, int threads);

  std::size_t count_, reach_ = 1;
  Block<std::int64_t> starts_;
  Block<std::uint32_t> heads_, places_;
  Block<float> values_, targets_, weights_, coupling_;
};

}  // namespace loosestep::models
