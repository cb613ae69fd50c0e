// The visits of one instruction set. Compiled once for each, with LOOSESTEP_ISA its name.
#include "models/factors_visit.hpp"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace loosestep::factors::LOOSESTEP_ISA {

extern const Visits table;
constexpr Visits table = visits_of<Vectors<float>, Vectors<std::uint16_t>, Adds::racy>(
    TEXT(LOOSESTEP_ISA), std::make_integer_sequence<int, most_lines>{});

}  // namespace loosestep::factors::LOOSESTEP_ISA
