// Tensors that lie anywhere, and one bucket that holds them all: gathered before a collective, scattered
// after it, or updated at their places from what it left in the bucket. One pass over memory, one launch for
// all tensors.
//
// A thread block does a piece of one tensor; which, it finds in `first`: tensor t has the pieces from
// first[t] to first[t + 1] - 1. Quotients are the CPU's: of what a mean divides by its weights.
//
// instances: gather<float, float>, gather<double, double>, gather<double, float>, gather<float, double>
// instances: gather<float16, float16>, gather<bfloat16, bfloat16>
// instances: scatter<float16, float16>, scatter<bfloat16, bfloat16>
// instances: gather<float16, float>, gather<bfloat16, float>, gather<float, float16>, gather<float, bfloat16>
// instances: scatter<float, float>, scatter<double, double>, scatter<double, float>, scatter<float, double>
// instances: scatter<float, float16>, scatter<float, bfloat16>, scatter<float16, float>
// instances: scatter<bfloat16, float>
// instances: update<Sgd<float>, float>, update<Sgd<double>, double>
// instances: update<Momentum<float>, float, float>, update<Momentum<double>, double, double>
// instances: update<Nesterov<float>, float, float>, update<Nesterov<double>, double, double>
// instances: update<Adam<float>, float, float, float>, update<Adam<double>, double, double, double>
#include "kernels/number.cuh"
#include "kernels/vector.cuh"
#include "rules/adam.hpp"
#include "rules/momentum.hpp"
#include "rules/nesterov.hpp"
#include "rules/sgd.hpp"

namespace loosestep {

constexpr size_t piece = 8192;  // elements that a thread block does at a time

struct Tensor {
  void* address;
  size_t length, offset;  // elements; where in the bucket
};

struct Table {
  const Tensor* tensors;
  const size_t* first;
  size_t count;
};

template <class V> __device__ bool starts(const void* x) {
  return reinterpret_cast<size_t>(x) % sizeof(V) == 0;
}

__device__ inline size_t tensor_of(const Table& table, size_t at) {
  size_t low = 0, high = table.count;
  while (high - low > 1) {
    const size_t middle = (low + high) / 2;
    (table.first[middle] <= at ? low : high) = middle;
  }
  return low;
}

// visit(tensor, begin, end) for every piece of this thread block.
template <class Visit> __device__ void each_piece(const Table& table, const Visit& visit) {
  for (size_t at = blockIdx.x; at < table.first[table.count]; at += gridDim.x) {
    const size_t t = tensor_of(table, at), begin = (at - table.first[t]) * piece;
    const Tensor tensor = table.tensors[t];
    visit(tensor, begin, tensor.length - begin < piece ? tensor.length : begin + piece);
  }
}

// to = from / divisor, in the arithmetic of what is written.
template <class From, class To, class Number>
__device__ __forceinline__ void quotient(const From& from, To& to, Number divisor) {
  narrow(static_cast<Number>(widened(from)) / divisor, to);
}

// out[i] = x[i] / divisor for i from begin to end - 1; the wider of both types by 16 bytes where both are
// aligned.
template <class From, class To, class Number>
__device__ void move(const From* x, To* out, size_t begin, size_t end, Number divisor) {
  constexpr int width = access_bytes / (sizeof(From) < sizeof(To) ? sizeof(To) : sizeof(From));
  using Froms = Vector<From, width>;
  using Tos = Vector<To, width>;
  const bool aligned = starts<Froms>(x + begin) && starts<Tos>(out + begin);
  const size_t many = aligned ? (end - begin) / width : 0;
  for (size_t i = threadIdx.x; i < many; i += blockDim.x) {
    const Froms from = reinterpret_cast<const Froms*>(x + begin)[i];
    Tos to;
    for (int k = 0; k < width; ++k) quotient(from.of[k], to.of[k], divisor);
    reinterpret_cast<Tos*>(out + begin)[i] = to;
  }
  for (size_t i = begin + width * many + threadIdx.x; i < end; i += blockDim.x)
    quotient(x[i], out[i], divisor);
}

template <class From, class To, class Number = typename Arithmetic<To>::type>
__global__ void __launch_bounds__(256) gather(Table table, To* bucket, Number divisor) {
  each_piece(table, [=](const Tensor& tensor, size_t begin, size_t end) {
    move(static_cast<const From*>(tensor.address), bucket + tensor.offset, begin, end, divisor);
  });
}

template <class From, class To, class Number = typename Arithmetic<To>::type>
__global__ void __launch_bounds__(256) scatter(Table table, const From* bucket, Number divisor) {
  each_piece(table, [=](const Tensor& tensor, size_t begin, size_t end) {
    move(bucket + tensor.offset, static_cast<To*>(tensor.address), begin, end, divisor);
  });
}

// A rule whose first buffer is the tensors, the last the bucket that holds the sum of their gradients, and
// those between flat like the bucket: what the optimizer keeps.
template <class R, class T, class... State>
__global__ void __launch_bounds__(256)
    update(R rule, Table table, const T* bucket, T divisor, State*... state) {
  each_piece(table, [=](const Tensor& tensor, size_t begin, size_t end) {
    T* const x = static_cast<T*>(tensor.address);
    for (size_t i = begin + threadIdx.x; i < end; i += blockDim.x)
      rule(x[i], state[tensor.offset + i]..., bucket[tensor.offset + i] / divisor);
  });
}

}  // namespace loosestep
