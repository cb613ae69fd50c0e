// Every rule with noise as a built-in function, for each instruction set. Its parameters are buffers,
// scalars, and the position in a random stream.
#include "bind/ops/parallel_for.hpp"
#include "bind/ops/registry.hpp"
#include "cpu/each.hpp"

namespace loosestep {
namespace {

constexpr int places = 4;  // seed, stream, step, start

std::string with_places(const char* parameters) {
  std::string all(parameters);  // no operator+: GCC 12 sees writes out of bounds in it
  all += ", seed, stream, step, start";
  return all;
}

template <template <class> class... R> std::vector<Signature> signatures(List<R...>) {
  return {Signature(R<float>::name, with_places(R<float>::parameters).c_str(),
                    Arguments<R<float>>::count - 1, Arguments<R<float>>::written())...};
}

const std::vector<Signature>& noisy() {
  static const std::vector<Signature> rules = signatures(Noisy{});
  return rules;
}

int scalars_of(const Signature& s) { return static_cast<int>(s.names.size()) - s.buffers - places; }

// Return one of the four; `start` may be missing.
unsigned long long place_at(const Signature& s, PyObject** bound_args, int i, unsigned long long most) {
  const int at = static_cast<int>(s.names.size()) - places + i;
  return bound_args[at] ? integer(s.op, s.names[static_cast<std::size_t>(at)], bound_args[at], most) : 0;
}

Noise noise_of(const Signature& s, PyObject** bound_args) {
  return {place_at(s, bound_args, 0, ~0ull), static_cast<unsigned>(place_at(s, bound_args, 1, ~0u)),
          static_cast<unsigned>(place_at(s, bound_args, 2, ~0u))};
}

PyObject* call(const Signature& s, const NoisyKernel* kernels, ArgVector args, Py_ssize_t count,
               PyObject* keywords) {
  PyObject* bound_args[max_arguments];
  FlatBuffer buffers[max_arguments];
  double scalars[max_arguments];
  bind_arguments(s, args, count, keywords, bound_args, static_cast<int>(s.names.size()) - 1);
  if (on_device(bound_args, s.buffers)) return run_on_device(s, bound_args);
  read_buffers(s, bound_args, buffers);
  for (int i = 0; i < scalars_of(s); ++i)
    scalars[i] = number(s.op, s.names[static_cast<std::size_t>(s.buffers + i)], bound_args[s.buffers + i]);
  const Noise noise = noise_of(s, bound_args);
  const unsigned long long start = place_at(s, bound_args, 3, ~0ull >> 1);
  parallel_for(s, buffers, [&](void* const* data, std::size_t begin, std::size_t end, bool) {
    kernels[buffers[0].dtype](scalars, data, noise, start, begin, end);
  });
  Py_RETURN_NONE;
}

template <std::size_t Rule, std::size_t Set>
PyObject* noisy_function(PyObject*, ArgVector args, Py_ssize_t count, PyObject* keywords) {
  static const Table& table = *available().begin[Set];
  return translate_exceptions([&] { return call(noisy()[Rule], table.noisy[Rule], args, count, keywords); });
}

template <std::size_t Set, std::size_t... Rule> void add_noise_rules(py::module_& m, std::index_sequence<Rule...>) {
  (add_function(m, noisy()[Rule], noisy_function<Rule, Set>), ...);
}

}  // namespace

void add_noisy(py::module_& m, std::size_t set) {
  with_set(set, [&](auto number) { add_noise_rules<number()>(m, std::make_index_sequence<Noisy::size>{}); });
}

}  // namespace loosestep
