// Parses a line of text to a row: `target qid:7 feature:value feature:value # comment`.
#pragma once

#include <cstring>
#include <string>
#include <type_traits>

#include "svmlight/errors.hpp"
#include "svmlight/lines.hpp"
#include "svmlight/number.hpp"
#include "svmlight/parsed_rows.hpp"

namespace loosestep::svmlight {

struct ParseOptions {
  std::int32_t least = 0, greatest = largest_feature;  // of the features, as numbered in the file
  bool queries = false;                                // keep them; a line without one is an error
};

inline bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r' && c != '\n'); }
inline bool is_end(char c) { return c == '\n' || c == '#'; }
inline bool is_gap(char c) { return is_blank(c) || is_end(c); }

inline const char* skip_blanks(const char* at) {
  while (is_blank(*at)) ++at;
  return at;
}

// Return the word at `at` for an error message, with bytes other than visible ASCII as \xef.
inline std::string quoted(const char* at) {
  constexpr std::size_t most = 40;
  constexpr char digits[] = "0123456789abcdef";
  std::string word;
  for (; !is_gap(*at) && word.size() < most; ++at) {
    const auto byte = static_cast<unsigned char>(*at);
    if (*at > ' ' && *at <= '~')
      word += *at;
    else
      word += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
  }
  return "'" + word + (is_gap(*at) ? "'" : "...'");
}

[[noreturn]] inline void fail(const char* word, const std::string& what) {
  throw InvalidLine(quoted(word) + " " + what);
}

template <class Value> class RowParser {
 public:
  RowParser(ParseOptions options, ParsedRows<Value>& rows) : options_(options), rows_(rows) {}

  // Append the row of a line, unless the line is empty. Throws InvalidLine.
  void read(Line line) {
    const char* at = skip_blanks(line.begin);
    if (is_end(*at)) return;
    rows_.reserve_for(std::size_t(line.end - at));
    at = skip_blanks(target(at));
    at = query(at, line.end);
    entries(at);
  }

 private:
  const char* target(const char* at) {
    double value;
    const char* const end = read_number(at, value);
    if (end == nullptr || !is_gap(*end)) fail(at, "is no target: one finite number is wanted");
    rows_.targets.push(value);
    return end;
  }

  const char* query(const char* at, const char* line_end) {
    if (std::strncmp(at, "qid:", 4) != 0) {
      if (options_.queries) throw InvalidLine("has no qid: after its target, which query_id=True wants");
      return at;
    }
    std::int64_t query;
    const auto [end, error] = std::from_chars(at + 4, line_end, query);
    if (error != std::errc() || !is_gap(*end)) fail(at, "is no query: qid:INTEGER is wanted");
    if (options_.queries) rows_.queries.push(query);
    return skip_blanks(end);
  }

  void entries(const char* at) {
    const std::size_t before = rows_.features.size();
    std::int64_t last = -1;
    for (; !is_end(*at); at = skip_blanks(at)) at = entry(at, last);
    const std::size_t count = rows_.features.size() - before;
    rows_.lengths.push(std::uint32_t(count));
    if (count > 0) rows_.range.add(rows_.features.data()[before], std::int32_t(last), rows_.lines);
  }

  const char* entry(const char* at, std::int64_t& last) {
    const char* const colon = feature(at, last);
    double wide;
    const char* const end = read_number(colon + 1, wide);
    if (end == nullptr || !is_gap(*end)) fail(at, "has no finite number behind its colon");
    Value value;
    if (!narrow(wide, value)) fail(at, "holds a value too large for float32");
    rows_.values.push(value);
    return end;
  }

  const char* feature(const char* at, std::int64_t& last) {
    std::uint64_t number = 0;
    const char* const colon = add_digits(at, number);
    if (*colon != ':' || colon == at || colon - at > 19 || number > std::uint64_t(options_.greatest) ||
        std::int64_t(number) < options_.least || std::int64_t(number) <= last)
      fail_feature(at, last);
    last = std::int64_t(number);
    rows_.features.push(std::int32_t(last));
    return colon;
  }

  // Separate from feature(), which must be fast.
  [[noreturn]] void fail_feature(const char* at, std::int64_t last) const {
    std::uint64_t number = 0;
    const char* const colon = add_digits(at + (*at == '-'), number);
    if (*colon != ':' || !is_digit(colon[-1])) fail(at, "is no entry: FEATURE:VALUE is wanted");
    if (*at == '-' || std::int64_t(number) < options_.least)
      fail(at, "is below the least feature, " + std::to_string(options_.least));
    if (colon - at > 19 || number > std::uint64_t(options_.greatest))
      fail(at, "is above the greatest feature, " + std::to_string(options_.greatest));
    fail(at, "follows feature " + std::to_string(last) + ": within a row features must grow");
  }

  ParseOptions options_;
  ParsedRows<Value>& rows_;
};

}  // namespace loosestep::svmlight
