// Thin matrices of doubles (PowerSGD), and transforms of tiles.
#pragma once
#include "codecs/messages.hpp"

namespace loosestep::codecs {

// p (rows x rank) = M q', where q is rank x columns and M's values lie row by row; `unit` times as long.
void times(const Values& m, size_t columns, size_t rank, double unit, const double* q, double* p);
// q (rank x columns) = p' M, whatever the unit; the largest double stands for what is beyond.
void times_transposed(const Values& m, size_t columns, size_t rank, double unit, const double* p, double* q);
// Make the columns of p orthonormal, from the first to the last; one that depends on those before becomes 0.
void orthonormal(double* p, size_t rows, size_t rank);
void product(const double* p, const double* q, size_t columns, size_t rank, const Room& out);
// Each tile of side x side values becomes left x right.
void transform(const Values& x, const void* left, const void* right, size_t side, const Room& out);

}  // namespace loosestep::codecs
