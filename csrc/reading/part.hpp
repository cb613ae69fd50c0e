// Rows as they are read: the next ones of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "reading/column.hpp"

namespace loosestep::reading {

constexpr std::int32_t largest_feature =
    std::numeric_limits<std::int32_t>::max() - 1;  // their count fits too

// The features of many rows, as the file numbers them.
struct Range {
  std::int32_t least = largest_feature, greatest = -1;
  std::int64_t greatest_line = 0;  // the first that has it

  void add(std::int32_t first, std::int32_t last, std::int64_t line) {
    if (first < least) least = first;
    if (last > greatest) greatest = last, greatest_line = line;
  }
};

template <class Value> struct Part {
  Column<std::int32_t> features;
  Column<Value> values;
  Column<std::uint32_t> lengths;  // of rows
  Column<double> targets;
  Column<std::int64_t> queries;  // where they are wanted
  Range range;                   // its lines: within the part, from 1 on
  std::int64_t lines = 0;

  std::size_t rows() const { return lengths.size(); }

  void reserve(std::size_t rows, std::size_t entries) {
    features.reserve(entries), values.reserve(entries);
    lengths.reserve(rows), targets.reserve(rows), queries.reserve(rows);
  }
  // Room for whatever so much text can hold: "1\n" is a row, " 1:2" an entry.
  void reserve_for(std::size_t bytes) { reserve(bytes / 2 + 1, bytes / 4 + 1); }
  void clear() { *this = Part(); }
  void fit() { features.fit(), values.fit(), lengths.fit(), targets.fit(), queries.fit(); }
};

}  // namespace loosestep::reading
