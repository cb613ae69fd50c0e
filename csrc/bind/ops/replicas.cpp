// Ops on many replicas in one pass: a block of each is loaded into the cache once.
#include <algorithm>
#include <cstring>

#include "bind/ops/registry.hpp"
#include "bind/ops/sequences.hpp"
#include "cpu/threads.hpp"

namespace loosestep {
namespace {

constexpr std::size_t max_replicas = 64;

const Signature elastic_signature("elastic_all", "replicas, c, rate", 2, 3);
const Signature mix_signature("mix", "replicas, weights", 1, 1);

// Read the replicas of an op: all written, like `like` or else like the first, none overlapping another.
std::vector<FlatBuffer> replicas_of(const Signature& s, const py::tuple& held, const FlatBuffer* like,
                                    const char* name) {
  std::vector<FlatBuffer> all;
  for (std::size_t i = 0; i < held.size(); ++i) {
    const FlatBuffer* other = like ? like : all.empty() ? nullptr : &all[0];
    all.push_back(flat_buffer(s.op, "replicas[" + std::to_string(i) + "]", held[i].ptr(), true, other, name));
    for (std::size_t j = 0; j < i; ++j)
      if (overlap(all[i], all[j]))
        raise_error(PyExc_ValueError, s.op + ": replicas[" + std::to_string(j) + "] and replicas[" +
                                          std::to_string(i) + "] must not overlap");
    if (like && overlap(all[i], *like))
      raise_error(PyExc_ValueError, s.op + ": replicas[" + std::to_string(i) + "] and c must not overlap");
  }
  return all;
}

py::tuple replica_tuple(const Signature& s, PyObject* given) {
  py::tuple held = as_tuple(s, 0, given);
  if (held.empty() || held.size() > max_replicas)
    raise_error(PyExc_ValueError, s.op + ": replicas must hold 1 to " + std::to_string(max_replicas) +
                                      " arrays, got " + std::to_string(held.size()));
  return held;
}

// Call part(begin, end) for every block, in several threads where that pays.
template <class F> void each_block(const std::vector<FlatBuffer>& all, F&& part) {
  const std::size_t bytes = all[0].bytes() * all.size();
  const ReleaseGilIfLarge released(bytes);
  parallel(all[0].n, block, bytes, [&](std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at < end; at += block) part(at, end - at < block ? end : at + block);
  });
}

PyObject* elastic_all(const Table& table, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  PyObject* bound_args[3];
  bind_arguments(elastic_signature, args, count, keywords, bound_args, 3);
  if (on_device(bound_args + 1, 1)) return run_on_device(elastic_signature, bound_args);
  const FlatBuffer center = flat_buffer("elastic_all", "c", bound_args[1], true);
  const auto all =
      replicas_of(elastic_signature, replica_tuple(elastic_signature, bound_args[0]), &center, "c");
  const double rate = number("elastic_all", "rate", bound_args[2]);
  const Kernel elastic = table.rules[rule_of("elastic")][center.dtype];
  each_block(all, [&](std::size_t begin, std::size_t end) {
    for (const FlatBuffer& each : all) {
      void* const pair[] = {each.data, center.data};
      elastic(&rate, pair, begin, end, false);
    }
  });
  Py_RETURN_NONE;
}

// Read n rows of n numbers.
std::vector<double> matrix(PyObject* given, std::size_t n) {
  std::vector<double> all;
  const py::tuple rows = as_tuple(mix_signature, 1, given);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const py::tuple row = as_tuple(mix_signature, 1, rows[i].ptr());
    for (const auto& each : row) all.push_back(number("mix", "weights", each.ptr()));
    if (rows.size() != n || row.size() != n)
      raise_error(PyExc_ValueError, "mix: weights must be " + std::to_string(n) + " rows of " +
                                        std::to_string(n) + ", one for each replica, got " +
                                        std::to_string(rows.size()) + " of which one has " +
                                        std::to_string(row.size()));
  }
  return all;
}

// The results for all replicas, on a thread's stack.
struct MixScratch {
  static constexpr std::size_t elements = 128;
  alignas(64) char of[max_replicas][elements * sizeof(double)];
};

void mix_some(const Table& table, const std::vector<FlatBuffer>& all, const double* weights, std::size_t at,
              std::size_t n) {
  MixScratch scratch;
  const void* here[max_replicas];
  const std::size_t count = all.size(), item = all[0].item();
  for (std::size_t i = 0; i < count; ++i) here[i] = static_cast<char*>(all[i].data) + at * item;
  for (std::size_t i = 0; i < count; ++i)
    table.fold[all[0].dtype]({here, weights + i * count, count, 0, scratch.of[i], false}, 0, n);
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(static_cast<char*>(all[i].data) + at * item, scratch.of[i], n * item);
}

PyObject* mix(const Table& table, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  PyObject* bound_args[2];
  bind_arguments(mix_signature, args, count, keywords, bound_args, 2);
  const py::tuple held = replica_tuple(mix_signature, bound_args[0]);
  PyObject* const first = held[0].ptr();
  if (on_device(&first, 1)) return run_on_device(mix_signature, bound_args);
  const auto all = replicas_of(mix_signature, held, nullptr, "replicas[0]");
  const auto weights = matrix(bound_args[1], all.size());
  each_block(all, [&](std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at < end; at += MixScratch::elements)
      mix_some(table, all, weights.data(), at, std::min(MixScratch::elements, end - at));
  });
  Py_RETURN_NONE;
}

}  // namespace

void add_replicas(py::module_& m, std::size_t set) {
  with_set(set, [&](auto number) {
    add_function(m, elastic_signature, bound<number(), elastic_all>);
    add_function(m, mix_signature, bound<number(), mix>);
  });
}

}  // namespace loosestep
