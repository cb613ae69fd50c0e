// Tensors at any addresses, and one flat bucket for all of them: gather before a collective, scatter after
// it, or update the tensors in place from the bucket. One pass over memory and one launch for all tensors.
//
// A thread block processes a piece of one tensor, which it finds in `first`: tensor t has the pieces first[t]
// to first[t + 1] - 1. Quotients have the CPU's bits: of a mean, the sum divided by the weights.
//
// instances: gather<float, float>, gather<double, double>, gather<double, float>, gather<float, double>
// instances: gather<float16, float16>, gather<bfloat16, bfloat16>
// instances: scatter<float16, float16>, scatter<bfloat16, bfloat16>
// instances: gather<float16, float>, gather<bfloat16, float>, gather<float, float16>, gather<float, bfloat16>
// instances: scatter<float, float>, scatter<double, double>, scatter<double, float>, scatter<float, double>
// instances: scatter<float, float16>, scatter<float, bfloat16>, scatter<float16, float>
// instances: scatter<bfloat16, float>
// instances: update<STEP, float>, update<STEP, double>, update<STEP, float16>, update<STEP, bfloat16>
#include "kernels/step.cuh"

namespace loosestep {

constexpr size_t piece = 8192;  // elements that a thread block processes at a time

struct Tensor {
  void* address;
  size_t length, offset;  // in elements; offset: in the bucket
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

// Call visit(tensor, begin, end) for every piece of this thread block.
template <class Visit> __device__ void each_piece(const Table& table, const Visit& visit) {
  for (size_t at = blockIdx.x; at < table.first[table.count]; at += gridDim.x) {
    const size_t t = tensor_of(table, at), begin = (at - table.first[t]) * piece;
    const Tensor tensor = table.tensors[t];
    visit(tensor, begin, tensor.length - begin < piece ? tensor.length : begin + piece);
  }
}

// to = from / divisor, in the arithmetic of the type that is written.
template <class From, class To, class Number>
__device__ __forceinline__ void quotient(const From& from, To& to, Number divisor) {
  narrow(static_cast<Number>(widened(from)) / divisor, to);
}

// out[i] = x[i] / divisor for i from begin to end - 1, by accesses of 16 bytes of the wider type where both
// are aligned.
template <class From, class To, class Number>
__device__ void move(const From* __restrict__ x, To* __restrict__ out, size_t begin, size_t end,
                     Number divisor) {
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
#pragma unroll 4
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

// Return the position of the gradient, g, in a list of parameters, or -1.
HD constexpr int place_of_g(const char* list) {
  int place = 0;
  for (bool begins = true; *list; begins = *list++ == ' ') {
    if (begins && *list == 'g' && (list[1] == ',' || !list[1])) return place;
    place += *list == ',';
  }
  return -1;
}

// A rule that takes g / divisor for g.
template <class R, class Number, class A, class I> struct OfQuotient;
template <class R, class Number, class... A, int... I>
struct OfQuotient<R, Number, Types<A...>, Indices<I...>> {
  R rule;
  Number divisor;

  template <int i, class B> __device__ __forceinline__ B taken(B x) const {
    if constexpr (i == place_of_g(R::parameters))
      return x / divisor;
    else
      return x;
  }

  __device__ __forceinline__ void operator()(A... a) const { rule(taken<I, A>(a)...); }
};

// Apply a rule. Its first buffer is the tensors, the others are flat; g, which it only reads, is the bucket
// with the sum of the gradients.
template <template <class> class Rule, class T, class Number = typename Arithmetic<T>::type,
          class R = Rule<Number>, int count = Arguments<R>::count>
__global__ void __launch_bounds__(256) update(R rule, Table table, Places<count - 1> flat, Number divisor) {
  const OfQuotient<R, Number, typename Arguments<R>::types, Count<count>> step{rule, divisor};
  each_piece(table, [=](const Tensor& tensor, size_t begin, size_t end) {
    Places<count> places{static_cast<T*>(tensor.address) + begin};
    for (int i = 1; i < count; ++i) places.at[i] = static_cast<T*>(flat.at[i - 1]) + tensor.offset + begin;
    walk<T>(step, places, end - begin, threadIdx.x, blockDim.x);
  });
}

}  // namespace loosestep
