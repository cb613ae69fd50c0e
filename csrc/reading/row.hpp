// One line of text to one row: `target qid:7 feature:value feature:value # comment`.
#pragma once

#include <cstring>
#include <string>
#include <type_traits>

#include "reading/failure.hpp"
#include "reading/lines.hpp"
#include "reading/number.hpp"
#include "reading/part.hpp"

namespace loosestep::reading {

struct Rules {
  std::int32_t least = 0, greatest = largest_feature;  // features, as the file numbers them
  bool queries = false;                                // keep them, and miss them where there is none
};

inline bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r' && c != '\n'); }
inline bool is_end(char c) { return c == '\n' || c == '#'; }
inline bool is_gap(char c) { return is_blank(c) || is_end(c); }

inline const char* skip_blanks(const char* at) {
  while (is_blank(*at)) ++at;
  return at;
}

// The word at `at`, as an error shows it: bytes that are no visible ASCII as \xef, so that they are seen.
inline std::string shown(const char* at) {
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

[[noreturn]] inline void refuse(const char* word, const std::string& what) {
  throw BadLine(shown(word) + " " + what);
}

template <class Value> class RowReader {
 public:
  RowReader(Rules rules, Part<Value>& part) : rules_(rules), part_(part) {}

  // Adds the line's row, if it holds one. The first line that holds none it can read is a BadLine.
  void read(Line line) {
    const char* at = skip_blanks(line.begin);
    if (is_end(*at)) return;
    part_.reserve_for(std::size_t(line.end - at));
    at = skip_blanks(target(at));
    at = query(at, line.end);
    entries(at);
  }

 private:
  const char* target(const char* at) {
    double value;
    const char* const end = read_number(at, value);
    if (end == nullptr || !is_gap(*end)) refuse(at, "is no target: one finite number is wanted");
    part_.targets.push(value);
    return end;
  }

  const char* query(const char* at, const char* line_end) {
    if (std::strncmp(at, "qid:", 4) != 0) {
      if (rules_.queries) throw BadLine("has no qid: after its target, which query_id=True wants");
      return at;
    }
    std::int64_t query;
    const auto [end, error] = std::from_chars(at + 4, line_end, query);
    if (error != std::errc() || !is_gap(*end)) refuse(at, "is no query: qid:INTEGER is wanted");
    if (rules_.queries) part_.queries.push(query);
    return skip_blanks(end);
  }

  void entries(const char* at) {
    const std::size_t before = part_.features.size();
    std::int64_t last = -1;
    for (; !is_end(*at); at = skip_blanks(at)) at = entry(at, last);
    const std::size_t count = part_.features.size() - before;
    part_.lengths.push(std::uint32_t(count));
    if (count > 0) part_.range.add(part_.features.data()[before], std::int32_t(last), part_.lines);
  }

  const char* entry(const char* at, std::int64_t& last) {
    const char* const colon = feature(at, last);
    double wide;
    const char* const end = read_number(colon + 1, wide);
    if (end == nullptr || !is_gap(*end)) refuse(at, "has no finite number behind its colon");
    Value value;
    if (!narrowed(wide, value)) refuse(at, "holds a value too large for float32");
    part_.values.push(value);
    return end;
  }

  const char* feature(const char* at, std::int64_t& last) {
    std::uint64_t number = 0;
    const char* const colon = add_digits(at, number);
    if (*colon != ':' || colon == at || colon - at > 19 || number > std::uint64_t(rules_.greatest) ||
        std::int64_t(number) < rules_.least || std::int64_t(number) <= last)
      no_feature(at, last);
    last = std::int64_t(number);
    part_.features.push(std::int32_t(last));
    return colon;
  }

  // Out of the way of what is fast.
  [[noreturn]] void no_feature(const char* at, std::int64_t last) const {
    std::uint64_t number = 0;
    const char* const colon = add_digits(at + (*at == '-'), number);
    if (*colon != ':' || !is_digit(colon[-1])) refuse(at, "is no entry: FEATURE:VALUE is wanted");
    if (*at == '-' || std::int64_t(number) < rules_.least)
      refuse(at, "is below the least feature, " + std::to_string(rules_.least));
    if (colon - at > 19 || number > std::uint64_t(rules_.greatest))
      refuse(at, "is above the greatest feature, " + std::to_string(rules_.greatest));
    refuse(at, "follows feature " + std::to_string(last) + ": within a row features must grow");
  }

  Rules rules_;
  Part<Value>& part_;
};

}  // namespace loosestep::reading
