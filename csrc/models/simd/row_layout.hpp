// How rows of factors are laid out for vector instructions.
#pragma once

namespace loosestep::simd {

inline constexpr int line = 16;       // elements; the length of a row is a multiple of it
inline constexpr int most_lines = 8;  // of a row

enum class Adds : int { racy, exact };

}  // namespace loosestep::simd
