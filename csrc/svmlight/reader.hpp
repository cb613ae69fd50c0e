// Reads the rows of a file in several threads, in the order of the file: all, or a number of rows at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "models/threads/thread_team.hpp"
#include "svmlight/row_parser.hpp"

namespace loosestep::svmlight {

template <class Value> struct Arrays {  // sized by available()
  std::int64_t* starts;                 // rows + 1
  std::int32_t* features;
  Value* values;
  double* targets;
  std::int64_t* queries;  // or nullptr
};

struct Sizes {
  std::size_t rows = 0, entries = 0;
};

template <class Value> class Reader {
 public:
  Reader(File file, ByteRange span, ParseOptions options, int threads)
      : file_(file),
        start_(span.begin),
        span_{span.begin, std::min(span.end, file.size)},
        options_(options),
        threads_(threads) {}

  // Read until `rows` rows are available or the file ends. Throws InvalidLine, whose text begins with the
  // number of the line, or Cancelled once `stop` has returned true; the reader cannot be used after either.
  template <class Stop> void fill(std::size_t rows, Stop stop) {
    while (waiting_ < rows && !ended())
      read_batch(rows == all ? span_.end - span_.begin : batch_bytes(), stop);
  }

  // Read to the end and keep only range().
  template <class Stop> void scan(Stop stop) {
    for (; !ended(); parsed_.clear()) read_batch(batch_bytes(), stop);
    waiting_ = 0;
  }

  // Return the sizes of what the next take(rows) copies.
  Sizes available(std::size_t rows) {
    Sizes sizes;
    for (const Segment& segment : segments(rows))
      sizes.rows += segment.rows, sizes.entries += segment.entries;
    return sizes;
  }

  // Copy the next rows, with features counted from `base`, and drop them.
  template <class Stop> void take(std::size_t rows, std::int32_t base, const Arrays<Value>& into, Stop stop) {
    const std::vector<Segment> taken = segments(rows);
    into.starts[0] = 0;
    parallel_in_order(taken.size(), stop, [&](std::size_t i, int) { copy(taken[i], base, into); });
    drop_taken(taken);
  }

  const FeatureRange& range() const { return range_; }  // of all rows read, with line numbers of the file
  static constexpr std::size_t all = std::numeric_limits<std::size_t>::max();

 private:
  static constexpr std::int64_t smallest = 64 << 10, largest = 8 << 20, block = 1 << 20;  // bytes of a batch
  static constexpr int batches_per_thread = 16;  // where all is read at once

  struct Segment {  // Consecutive rows of one batch.
    ParsedRows<Value>* batch;
    std::size_t row, rows, entry, entries;  // within the batch
    std::size_t to_row, to_entry;           // within the arrays
  };

  bool ended() const { return span_.begin >= span_.end; }
  std::int64_t batch_bytes() const { return block * 4 * threads_; }

  // Call f(0, thread), f(1, thread), ... in several threads, begun in this order. Throws Cancelled once
  // `stop` has returned true.
  template <class Stop, class F> void parallel_in_order(std::size_t count, Stop stop, F f) const {
    models::ThreadTeam team;
    std::atomic<std::size_t> next{0};
    const auto work = [&](int thread) {
      for (std::size_t i; !team.stopped() && (i = next++) < count;) f(i, thread);
    };
    team.run(int(std::min(std::size_t(threads_), count)), work, stop);
    if (team.stopped()) throw Cancelled();
  }

  template <class Stop> void read_batch(std::int64_t bytes, Stop stop) {
    const std::int64_t end = span_.end - span_.begin > bytes ? span_.begin + bytes : span_.end;
    const std::int64_t even = (end - span_.begin) / (batches_per_thread * threads_);
    const std::int64_t step = std::clamp(even, smallest, largest);
    std::vector<ParsedRows<Value>> parsed(std::size_t((end - span_.begin + step - 1) / step));
    FirstInvalid invalid{parsed.size()};
    std::vector<ReadBuffer> buffers(static_cast<std::size_t>(threads_));
    parallel_in_order(parsed.size(), stop, [&](std::size_t i, int thread) {
      const std::int64_t begin = span_.begin + std::int64_t(i) * step;
      const ByteRange span{begin, std::min(begin + step, end)};
      if (i < invalid.batch) read(span, buffers[std::size_t(thread)], parsed[i], i, invalid);
    });
    for (std::size_t i = 0; i < parsed.size(); ++i) {
      if (i == invalid.batch) fail_line(lines_ + parsed[i].lines, invalid.what, stop);
      append(std::move(parsed[i]));
    }
    span_.begin = end;
  }

  struct FirstInvalid {  // The first batch with an invalid line. Batches before it are read to their ends.
    std::atomic<std::size_t> batch;
    std::mutex mutex{};
    std::string what{};
  };

  void read(ByteRange span, ReadBuffer& buffer, ParsedRows<Value>& batch, std::size_t number,
            FirstInvalid& invalid) const {
    try {
      Lines lines(file_, span, buffer);
      RowParser<Value> parser(options_, batch);
      batch.reserve_for(std::size_t(span.end - span.begin));
      for (Line line; ++batch.lines, lines.next(line);) parser.read(line);
      --batch.lines;  // the last increment found no line
      batch.shrink_to_fit();
    } catch (const InvalidLine& line) {
      const std::lock_guard lock(invalid.mutex);
      if (number < invalid.batch) invalid.batch = number, invalid.what = line.what();
    }
  }

  void append(ParsedRows<Value>&& batch) {
    const FeatureRange& range = batch.range;
    if (range.greatest >= 0) range_.add(range.least, range.greatest, lines_ + range.greatest_line);
    lines_ += batch.lines, waiting_ += batch.rows();
    if (batch.rows() > 0) parsed_.push_back(std::move(batch));
  }

  template <class Stop>
  [[noreturn]] void fail_line(std::int64_t line, const std::string& what, Stop stop) const {
    std::atomic<std::int64_t> number{line + (start_ > 0)};  // start_ is within a line, which is not read
    parallel_in_order(std::size_t((start_ + largest - 1) / largest), stop, [&](std::size_t i, int) {
      const std::int64_t begin = std::int64_t(i) * largest;
      number += count_newlines(file_, {begin, std::min(begin + largest, start_)});
    });
    throw InvalidLine("line " + std::to_string(number) + ": " + what);
  }

  std::vector<Segment> segments(std::size_t rows) {
    std::vector<Segment> taken;
    std::size_t row = row_, entry = entry_, to_row = 0, to_entry = 0;
    for (ParsedRows<Value>& batch : parsed_) {
      const std::size_t count = std::min(batch.rows() - row, rows - to_row);
      if (count == 0) break;
      const std::uint32_t* lengths = batch.lengths.data() + row;
      const std::size_t entries = count == batch.rows() - row
                                      ? batch.features.size() - entry
                                      : std::accumulate(lengths, lengths + count, std::size_t(0));
      taken.push_back({&batch, row, count, entry, entries, to_row, to_entry});
      to_row += count, to_entry += entries, row = entry = 0;
    }
    return taken;
  }

  void copy(const Segment& segment, std::int32_t base, const Arrays<Value>& into) const {
    ParsedRows<Value>& batch = *segment.batch;
    std::copy_n(batch.values.data() + segment.entry, segment.entries, into.values + segment.to_entry);
    std::transform(batch.features.data() + segment.entry,
                   batch.features.data() + segment.entry + segment.entries, into.features + segment.to_entry,
                   [=](std::int32_t feature) { return feature - base; });
    std::copy_n(batch.targets.data() + segment.row, segment.rows, into.targets + segment.to_row);
    if (into.queries)
      std::copy_n(batch.queries.data() + segment.row, segment.rows, into.queries + segment.to_row);
    std::int64_t end = std::int64_t(segment.to_entry);
    for (std::size_t i = 0; i < segment.rows; ++i)
      into.starts[segment.to_row + i + 1] = end += batch.lengths.data()[segment.row + i];
    // frees memory for the rows still to be copied
    if (segment.row + segment.rows == batch.rows()) batch.clear();
  }

  void drop_taken(const std::vector<Segment>& taken) {
    for (const Segment& segment : taken) waiting_ -= segment.rows;
    for (const Segment& segment : taken) {
      row_ = segment.row + segment.rows, entry_ = segment.entry + segment.entries;
      if (segment.batch->rows() > 0) return;
      parsed_.pop_front(), row_ = entry_ = 0;
    }
  }

  File file_;
  std::int64_t start_;  // begin of the first byte range
  ByteRange span_;      // the bytes still to be read
  ParseOptions options_;
  int threads_;
  FeatureRange range_;
  std::int64_t lines_ = 0;                // since start_
  std::deque<ParsedRows<Value>> parsed_;  // read and not yet taken; none is empty
  std::size_t row_ = 0, entry_ = 0;       // taken from the first of them
  std::size_t waiting_ = 0;               // rows that take() can return
};

}  // namespace loosestep::svmlight
