// The visits that need no instruction set, and which sets there are.
#include "models/factors.hpp"

#include <stdexcept>
#include <string>

#include "models/factors_learn.hpp"
#include "models/factors_visit.hpp"

namespace loosestep {

#if defined(LOOSESTEP_X86)
namespace avx512 {
extern const factors::Visits visits;
extern const factors::Machines machines;
}  // namespace avx512
namespace avx2 {
extern const factors::Visits visits;
extern const factors::Machines machines;
}  // namespace avx2
#endif
namespace LOOSESTEP_BASELINE {
extern const factors::Visits visits;
extern const factors::Machines machines;
}  // namespace LOOSESTEP_BASELINE

}  // namespace loosestep

namespace loosestep::factors {
namespace {

const Visits* const visits_tables[] = {
#if defined(LOOSESTEP_X86)
    &avx512::visits, &avx2::visits,
#endif
    &LOOSESTEP_BASELINE::visits};

const Machines* const machines_tables[] = {
#if defined(LOOSESTEP_X86)
    &avx512::machines, &avx2::machines,
#endif
    &LOOSESTEP_BASELINE::machines};

template <class Tables> const auto& named(const Tables& tables, const char* name) {
  for (const auto* each : tables)
    if (std::string(each->name) == name) return *each;
  throw std::invalid_argument(std::string("no factors were compiled for ") + name);
}

constexpr std::make_integer_sequence<int, most_lines> every_length;

template <Adds adds>
constexpr Visits atomically =
    visits_of<Atomics<Singles, adds>, Atomics<Doubles, adds>, adds>("atomic", every_length);

}  // namespace

constexpr Visits atomic_racy = atomically<Adds::racy>;
constexpr Visits atomic_exact = atomically<Adds::exact>;

constexpr Machines atomic_machines = machines_of<Atomics<Singles, Adds::racy>>("atomic", every_length);

const Visits& visits(const char* instruction_set) { return named(visits_tables, instruction_set); }
const Machines& machines(const char* instruction_set) { return named(machines_tables, instruction_set); }

}  // namespace loosestep::factors
