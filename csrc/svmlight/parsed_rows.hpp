// The rows of one byte range of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "svmlight/growing_array.hpp"

namespace loosestep::svmlight {

constexpr std::int32_t largest_feature =
    std::numeric_limits<std::int32_t>::max() - 1;  // so that their count fits too

// The least and the greatest feature of some rows, as numbered in the file.
struct FeatureRange {
  std::int32_t least = largest_feature, greatest = -1;
  std::int64_t greatest_line = 0;  // the first line that has it

  void add(std::int32_t first, std::int32_t last, std::int64_t line) {
    if (first < least) least = first;
    if (last > greatest) greatest = last, greatest_line = line;
  }
};

template <class Value> struct ParsedRows {
  GrowingArray<std::int32_t> features;
  GrowingArray<Value> values;
  GrowingArray<std::uint32_t> lengths;  // entries of each row
  GrowingArray<double> targets;
  GrowingArray<std::int64_t> queries;  // empty where not wanted
  FeatureRange range;                  // with lines counted from 1 within the byte range
  std::int64_t lines = 0;

  std::size_t rows() const { return lengths.size(); }

  void reserve(std::size_t rows, std::size_t entries) {
    features.reserve(entries), values.reserve(entries);
    lengths.reserve(rows), targets.reserve(rows), queries.reserve(rows);
  }
  // Reserve for all that so many bytes can hold: "1\n" is a row, " 1:2" an entry.
  void reserve_for(std::size_t bytes) { reserve(bytes / 2 + 1, bytes / 4 + 1); }
  void clear() { *this = ParsedRows(); }
  void shrink_to_fit() {
    features.shrink_to_fit(), values.shrink_to_fit(), lengths.shrink_to_fit(), targets.shrink_to_fit(),
        queries.shrink_to_fit();
  }
};

}  // namespace loosestep::svmlight
