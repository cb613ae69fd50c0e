// The visits of one instruction set. Compiled once for each, with LOOSESTEP_ISA its name.
#include "models/factors_visit.hpp"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace loosestep::LOOSESTEP_ISA {

extern const factors::Visits visits;
constexpr factors::Visits visits =
    factors::visits_of<factors::Vectors<float>, factors::Vectors<std::uint16_t>, factors::Adds::racy>(
        TEXT(LOOSESTEP_ISA), std::make_integer_sequence<int, factors::most_lines>{});

}  // namespace loosestep::LOOSESTEP_ISA
