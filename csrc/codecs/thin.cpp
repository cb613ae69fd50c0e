#include "codecs/thin.hpp"

#include "cpu/threads.hpp"
#include "rules/magnitude.hpp"

namespace loosestep::codecs {
namespace {

constexpr double dependent =
    1e-20;  // of the square of a column's length, where hardly anything is left of it

size_t rows_of(size_t n, size_t columns) { return (n + columns - 1) / columns; }

double inner(const double* p, size_t rows, size_t rank, size_t one, size_t other) {
  double sums[4] = {};
  for (size_t row = 0; row < rows; ++row) sums[row % 4] += p[row * rank + one] * p[row * rank + other];
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

// Subtract what columns before one have of it.
void subtract_others(double* p, size_t rows, size_t rank, size_t column) {
  for (size_t before = 0; before < column; ++before) {
    const double share = inner(p, rows, rank, before, column);
    for (size_t row = 0; row < rows; ++row) p[row * rank + column] -= share * p[row * rank + before];
  }
}

}  // namespace

void times(const Values& m, size_t columns, size_t rank, double unit, const double* q, double* p) {
  const Matrix matrix{m.data, m.n, columns, rank, unit};
  const auto function = table().times[m.dtype];
  parallel(rows_of(m.n, columns), 1, m.bytes() * rank,
           [&](size_t begin, size_t end) { function(matrix, q, p, begin, end); });
}

void times_transposed(const Values& m, size_t columns, size_t rank, double unit, const double* p, double* q) {
  const Matrix matrix{m.data, m.n, columns, rank, unit};
  const auto function = table().times_transposed[m.dtype];
  parallel(columns, 8, m.bytes() * rank,
           [&](size_t begin, size_t end) { function(matrix, p, q, begin, end); });
  for (size_t i = 0; i < rank * columns; ++i) q[i] = limited(q[i] / unit);
}

void orthonormal(double* p, size_t rows, size_t rank) {
  for (size_t column = 0; column < rank; ++column) {
    const double before = inner(p, rows, rank, column, column);
    subtract_others(p, rows, rank, column);
    subtract_others(p, rows, rank, column);  // once more, for what rounding has left
    const double left = inner(p, rows, rank, column, column);
    const double factor = left > dependent * before ? 1 / root(left) : 0;
    for (size_t row = 0; row < rows; ++row) p[row * rank + column] *= factor;
  }
}

void product(const double* p, const double* q, size_t columns, size_t rank, const Room& out) {
  const Matrix matrix{out.data, out.n, columns, rank, 1};
  const auto function = table().product[out.dtype];
  parallel(rows_of(out.n, columns), 1, out.bytes() * rank,
           [&](size_t begin, size_t end) { function(p, q, out.data, matrix, begin, end); });
}

void transform(const Values& x, const void* left, const void* right, size_t side, const Room& out) {
  const auto function = table().transform[x.dtype];
  parallel(x.n / (side * side), 1, 2 * x.bytes() * side,
           [&](size_t begin, size_t end) { function(x.data, out.data, left, right, side, begin, end); });
}

}  // namespace loosestep::codecs
