// The visits that need no instruction set, and which sets there are.
#include "models/factors.hpp"

#include <stdexcept>
#include <string>

#include "models/factors_visit.hpp"

namespace loosestep {

#if defined(LOOSESTEP_X86)
namespace avx512 {
extern const factors::Visits visits;
}
namespace avx2 {
extern const factors::Visits visits;
}
#endif
namespace LOOSESTEP_BASELINE {
extern const factors::Visits visits;
}

}  // namespace loosestep

namespace loosestep::factors {
namespace {

const Visits* const tables[] = {
#if defined(LOOSESTEP_X86)
    &avx512::visits, &avx2::visits,
#endif
    &LOOSESTEP_BASELINE::visits};

constexpr std::make_integer_sequence<int, most_lines> every_length;

template <Adds adds>
constexpr Visits atomically =
    visits_of<Atomics<float, adds>, Atomics<std::uint16_t, adds>, adds>("atomic", every_length);

}  // namespace

constexpr Visits atomic_racy = atomically<Adds::racy>;
constexpr Visits atomic_exact = atomically<Adds::exact>;

const Visits& visits(const char* instruction_set) {
  for (const Visits* each : tables)
    if (std::string(each->name) == instruction_set) return *each;
  throw std::logic_error(std::string("no visits were compiled for ") + instruction_set);
}

}  // namespace loosestep::factors
