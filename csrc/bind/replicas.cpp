// Many replicas in one pass: a block of every one is brought into cache once.
#include <algorithm>
#include <cstring>

#include "bind/functions.hpp"
#include "bind/lists.hpp"
#include "cpu/threads.hpp"

namespace loosestep {
namespace {

constexpr std::size_t most_replicas = 64;

const Signature elastic_signature("elastic_all", "replicas, c, rate", 2, 3);
const Signature mix_signature("mix", "replicas, weights", 1, 1);

// The replicas of `s`, all written, like the first of them or like `first`; none overlaps another.
std::vector<Flat> replicas_of(const Signature& s, const py::tuple& held, const Flat* like, const char* name) {
  std::vector<Flat> all;
  for (std::size_t i = 0; i < held.size(); ++i) {
    const Flat* other = like ? like : all.empty() ? nullptr : &all[0];
    all.push_back(flat(s.op, "replicas[" + std::to_string(i) + "]", held[i].ptr(), true, other, name));
    for (std::size_t j = 0; j < i; ++j)
      if (overlap(all[i], all[j]))
        refuse(PyExc_ValueError, s.op + ": replicas[" + std::to_string(j) + "] and replicas[" +
                                     std::to_string(i) + "] must not overlap");
    if (like && overlap(all[i], *like))
      refuse(PyExc_ValueError, s.op + ": replicas[" + std::to_string(i) + "] and c must not overlap");
  }
  return all;
}

py::tuple some(const Signature& s, PyObject* given) {
  py::tuple held = items(s, 0, given);
  if (held.empty() || held.size() > most_replicas)
    refuse(PyExc_ValueError, s.op + ": replicas must hold 1 to " + std::to_string(most_replicas) +
                                 " arrays, got " + std::to_string(held.size()));
  return held;
}

// part(begin, end) for every block, in several threads where that pays.
template <class F> void each_block(const std::vector<Flat>& all, F&& part) {
  const std::size_t bytes = all[0].bytes() * all.size();
  const Released released(bytes);
  parallel(all[0].n, block, bytes, [&](std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at < end; at += block) part(at, end - at < block ? end : at + block);
  });
}

PyObject* elastic_all(const Table& table, Given args, Py_ssize_t count, PyObject* keywords) {
  PyObject* placed[3];
  place(elastic_signature, args, count, keywords, placed, 3);
  if (on_card(placed + 1, 1)) return run_on_card(elastic_signature, placed);
  const Flat center = flat("elastic_all", "c", placed[1], true);
  const auto all = replicas_of(elastic_signature, some(elastic_signature, placed[0]), &center, "c");
  const double rate = number("elastic_all", "rate", placed[2]);
  const Kernel elastic = table.rules[rule_of("elastic")][center.dtype];
  each_block(all, [&](std::size_t begin, std::size_t end) {
    for (const Flat& each : all) {
      void* const pair[] = {each.data, center.data};
      elastic(&rate, pair, begin, end, false);
    }
  });
  Py_RETURN_NONE;
}

// n rows of n numbers, one behind the other.
std::vector<double> matrix(PyObject* given, std::size_t n) {
  std::vector<double> all;
  const py::tuple rows = items(mix_signature, 1, given);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const py::tuple row = items(mix_signature, 1, rows[i].ptr());
    for (const auto& each : row) all.push_back(number("mix", "weights", each.ptr()));
    if (rows.size() != n || row.size() != n)
      refuse(PyExc_ValueError, "mix: weights must be " + std::to_string(n) + " rows of " + std::to_string(n) +
                                   ", one for each replica, got " + std::to_string(rows.size()) +
                                   " of which one has " + std::to_string(row.size()));
  }
  return all;
}

// Room on a thread's stack for what all replicas become.
struct Mixed {
  static constexpr std::size_t elements = 128;
  alignas(64) char of[most_replicas][elements * sizeof(double)];
};

void mix_some(const Table& table, const std::vector<Flat>& all, const double* weights, std::size_t at,
              std::size_t n) {
  Mixed made;
  const void* here[most_replicas];
  const std::size_t count = all.size(), item = all[0].item();
  for (std::size_t i = 0; i < count; ++i) here[i] = static_cast<char*>(all[i].data) + at * item;
  for (std::size_t i = 0; i < count; ++i)
    table.fold[all[0].dtype]({here, weights + i * count, count, 0, made.of[i], false}, 0, n);
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(static_cast<char*>(all[i].data) + at * item, made.of[i], n * item);
}

PyObject* mix(const Table& table, Given args, Py_ssize_t count, PyObject* keywords) {
  PyObject* placed[2];
  place(mix_signature, args, count, keywords, placed, 2);
  const py::tuple held = some(mix_signature, placed[0]);
  PyObject* const first = held[0].ptr();
  if (on_card(&first, 1)) return run_on_card(mix_signature, placed);
  const auto all = replicas_of(mix_signature, held, nullptr, "replicas[0]");
  const auto weights = matrix(placed[1], all.size());
  each_block(all, [&](std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at < end; at += Mixed::elements)
      mix_some(table, all, weights.data(), at, std::min(Mixed::elements, end - at));
  });
  Py_RETURN_NONE;
}

}  // namespace

void add_replicas(py::module_& m, std::size_t set) {
  with_set(set, [&](auto number) {
    add_function(m, elastic_signature, in_set<number(), elastic_all>);
    add_function(m, mix_signature, in_set<number(), mix>);
  });
}

}  // namespace loosestep
