// Reads a file of rows in several threads, in the file's order: all of it, or so many rows at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "models/crew.hpp"
#include "reading/row.hpp"

namespace loosestep::reading {

template <class Value> struct Arrays {  // room for what ready() says
  std::int64_t* starts;                 // one more than rows
  std::int32_t* features;
  Value* values;
  double* targets;
  std::int64_t* queries;  // nullptr: not wanted
};

struct Amount {
  std::size_t rows = 0, entries = 0;
};

template <class Value> class Reader {
 public:
  Reader(File file, Span span, Rules rules, int threads)
      : file_(file),
        start_(span.begin),
        span_{span.begin, std::min(span.end, file.size)},
        rules_(rules),
        threads_(threads) {}

  // Reads on until `rows` rows wait, or the file ends. A line that cannot be read is a BadLine which begins
  // with its number; `stop` is asked now and then whether to give up: Stopped. After either nothing can be
  // had.
  template <class Stop> void fill(std::size_t rows, Stop stop) {
    while (waiting_ < rows && !ended()) wave(rows == all ? span_.end - span_.begin : wave_bytes(), stop);
  }

  // Reads all and keeps none of it; range() tells of it.
  template <class Stop> void scan(Stop stop) {
    for (; !ended(); parts_.clear()) wave(wave_bytes(), stop);
    waiting_ = 0;
  }

  // How much the next take(rows) gives.
  Amount ready(std::size_t rows) {
    Amount amount;
    for (const Piece& piece : pieces(rows)) amount.rows += piece.rows, amount.entries += piece.entries;
    return amount;
  }

  // Copies the next rows out, their features counted from `base`, and forgets them.
  template <class Stop> void take(std::size_t rows, std::int32_t base, const Arrays<Value>& into, Stop stop) {
    const std::vector<Piece> plan = pieces(rows);
    into.starts[0] = 0;
    in_turn(plan.size(), stop, [&](std::size_t i, int) { copy(plan[i], base, into); });
    forget(plan);
  }

  const Range& range() const { return range_; }  // of all that was read, by lines of the file
  static constexpr std::size_t all = std::numeric_limits<std::size_t>::max();

 private:
  static constexpr std::int64_t smallest = 64 << 10, largest = 8 << 20, block = 1 << 20;  // bytes of a part
  static constexpr int parts_of_a_thread = 16;                                            // where all is read

  struct Piece {  // of a part
    Part<Value>* part;
    std::size_t row, rows, entry, entries;  // in the part
    std::size_t to_row, to_entry;           // in the arrays
  };

  bool ended() const { return span_.begin >= span_.end; }
  std::int64_t wave_bytes() const { return block * 4 * threads_; }

  // Calls f(0, thread), f(1, thread), ... in several threads, begun in this order; Stopped where `stop` says
  // so.
  template <class Stop, class F> void in_turn(std::size_t count, Stop stop, F f) const {
    models::Crew crew;
    std::atomic<std::size_t> next{0};
    const auto work = [&](int thread) {
      for (std::size_t i; !crew.stopped() && (i = next++) < count;) f(i, thread);
    };
    crew.run(int(std::min(std::size_t(threads_), count)), work, stop);
    if (crew.stopped()) throw Stopped();
  }

  template <class Stop> void wave(std::int64_t bytes, Stop stop) {
    const std::int64_t end = span_.end - span_.begin > bytes ? span_.begin + bytes : span_.end;
    const std::int64_t even = (end - span_.begin) / (parts_of_a_thread * threads_);
    const std::int64_t step = std::clamp(even, smallest, largest);
    std::vector<Part<Value>> parts(std::size_t((end - span_.begin + step - 1) / step));
    Bad bad{parts.size()};
    std::vector<Window> windows(static_cast<std::size_t>(threads_));
    in_turn(parts.size(), stop, [&](std::size_t i, int thread) {
      const std::int64_t begin = span_.begin + std::int64_t(i) * step;
      const Span span{begin, std::min(begin + step, end)};
      if (i < bad.part) read(span, windows[std::size_t(thread)], parts[i], i, bad);
    });
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (i == bad.part) refuse_line(lines_ + parts[i].lines, bad.what, stop);
      keep(std::move(parts[i]));
    }
    span_.begin = end;
  }

  struct Bad {  // the first part that holds a bad line; parts before it are read to their ends
    std::atomic<std::size_t> part;
    std::mutex mutex{};
    std::string what{};
  };

  void read(Span span, Window& window, Part<Value>& part, std::size_t number, Bad& bad) const {
    try {
      Lines lines(file_, span, window);
      RowReader<Value> rows(rules_, part);
      part.reserve_for(std::size_t(span.end - span.begin));
      for (Line line; ++part.lines, lines.next(line);) rows.read(line);
      --part.lines;  // there was none
      part.fit();
    } catch (const BadLine& line) {
      const std::lock_guard lock(bad.mutex);
      if (number < bad.part) bad.part = number, bad.what = line.what();
    }
  }

  void keep(Part<Value>&& part) {
    const Range& range = part.range;
    if (range.greatest >= 0) range_.add(range.least, range.greatest, lines_ + range.greatest_line);
    lines_ += part.lines, waiting_ += part.rows();
    if (part.rows() > 0) parts_.push_back(std::move(part));
  }

  template <class Stop>
  [[noreturn]] void refuse_line(std::int64_t line, const std::string& what, Stop stop) const {
    std::atomic<std::int64_t> number{line + (start_ > 0)};  // after the line that start_ cuts
    in_turn(std::size_t((start_ + largest - 1) / largest), stop, [&](std::size_t i, int) {
      const std::int64_t begin = std::int64_t(i) * largest;
      number += line_ends(file_, {begin, std::min(begin + largest, start_)});
    });
    throw BadLine("line " + std::to_string(number) + ": " + what);
  }

  std::vector<Piece> pieces(std::size_t rows) {
    std::vector<Piece> plan;
    std::size_t row = row_, entry = entry_, to_row = 0, to_entry = 0;
    for (Part<Value>& part : parts_) {
      const std::size_t count = std::min(part.rows() - row, rows - to_row);
      if (count == 0) break;
      const std::uint32_t* lengths = part.lengths.data() + row;
      const std::size_t entries = count == part.rows() - row
                                      ? part.features.size() - entry
                                      : std::accumulate(lengths, lengths + count, std::size_t(0));
      plan.push_back({&part, row, count, entry, entries, to_row, to_entry});
      to_row += count, to_entry += entries, row = entry = 0;
    }
    return plan;
  }

  void copy(const Piece& piece, std::int32_t base, const Arrays<Value>& into) const {
    Part<Value>& part = *piece.part;
    std::copy_n(part.values.data() + piece.entry, piece.entries, into.values + piece.to_entry);
    std::transform(part.features.data() + piece.entry, part.features.data() + piece.entry + piece.entries,
                   into.features + piece.to_entry, [=](std::int32_t feature) { return feature - base; });
    std::copy_n(part.targets.data() + piece.row, piece.rows, into.targets + piece.to_row);
    if (into.queries) std::copy_n(part.queries.data() + piece.row, piece.rows, into.queries + piece.to_row);
    std::int64_t end = std::int64_t(piece.to_entry);
    for (std::size_t i = 0; i < piece.rows; ++i)
      into.starts[piece.to_row + i + 1] = end += part.lengths.data()[piece.row + i];
    if (piece.row + piece.rows == part.rows()) part.clear();  // memory for what is still to be copied
  }

  void forget(const std::vector<Piece>& plan) {
    for (const Piece& piece : plan) waiting_ -= piece.rows;
    for (const Piece& piece : plan) {
      row_ = piece.row + piece.rows, entry_ = piece.entry + piece.entries;
      if (piece.part->rows() > 0) return;
      parts_.pop_front(), row_ = entry_ = 0;
    }
  }

  File file_;
  std::int64_t start_;  // where the first span began
  Span span_;           // what is still to be read
  Rules rules_;
  int threads_;
  Range range_;
  std::int64_t lines_ = 0;           // from start_ on
  std::deque<Part<Value>> parts_;    // read and not yet taken, none without a row
  std::size_t row_ = 0, entry_ = 0;  // of the first of them: what was taken
  std::size_t waiting_ = 0;          // rows
};

}  // namespace loosestep::reading
