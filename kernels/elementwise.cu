// Any rule in one launch.
//
// instances: elementwise<RULE, float>, elementwise<RULE, double>, elementwise<RULE, float16>
// instances: elementwise<RULE, bfloat16>
#include "kernels/step.cuh"

namespace loosestep {

template <template <class> class Rule, class T, class R = Rule<typename Arithmetic<T>::type>>
__global__ void __launch_bounds__(256) elementwise(R rule, Places<Arguments<R>::count> places, size_t n) {
  walk<T>(rule, places, n, blockIdx.x * size_t(blockDim.x) + threadIdx.x, size_t(gridDim.x) * blockDim.x);
}

}  // namespace loosestep
