// The list of rules. All bindings iterate over it: a new op is a rule, its type here, and its body in loosestep/ops/.
#pragma once
#include "rules/accumulate.hpp"
#include "rules/adam.hpp"
#include "rules/add_and_average.hpp"
#include "rules/add_if_recent.hpp"
#include "rules/add_normal.hpp"
#include "rules/anchor.hpp"
#include "rules/axpy.hpp"
#include "rules/blend.hpp"
#include "rules/buffered.hpp"
#include "rules/claim.hpp"
#include "rules/compensate.hpp"
#include "rules/copy.hpp"
#include "rules/correct.hpp"
#include "rules/correct_and_copy.hpp"
#include "rules/delayed_nesterov.hpp"
#include "rules/elastic.hpp"
#include "rules/lamb.hpp"
#include "rules/langevin.hpp"
#include "rules/lars.hpp"
#include "rules/lerp.hpp"
#include "rules/lerp_and_copy.hpp"
#include "rules/momentum.hpp"
#include "rules/nesterov.hpp"
#include "rules/nesterov_proximal.hpp"
#include "rules/normal.hpp"
#include "rules/normals.hpp"
#include "rules/outer_momentum.hpp"
#include "rules/outer_nesterov.hpp"
#include "rules/parle.hpp"
#include "rules/proximal.hpp"
#include "rules/rmsprop_warmup.hpp"
#include "rules/scale.hpp"
#include "rules/sgd.hpp"
#include "rules/sgd_proximal.hpp"
#include "rules/shrink.hpp"
#include "rules/subtract.hpp"

namespace loosestep {

template <template <class> class... Rules> struct List {
  static constexpr int size = sizeof...(Rules);
};

using Elementwise = List<Copy, Axpy, Scale, Subtract, Elastic, Lerp, Sgd, Momentum, Nesterov, Adam,
                         OuterMomentum, OuterNesterov, Correct, CorrectAndCopy, LerpAndCopy,
                         Anchor, Proximal, Blend, SgdProximal, NesterovProximal, Parle, Lars, Lamb, RmspropWarmup,
                         AddAndAverage, AddIfRecent, Compensate, DelayedNesterov, Buffered, Claim, Shrink, Accumulate>;
// Rules whose last argument is a normal random number (normals.hpp).
using Noisy = List<Normal, AddNormal, Langevin>;
// Rules that also exist for buffers which several threads update atomically.
using Shared = List<Axpy, Sgd, Momentum, Nesterov, Adam, Lars, Lamb, RmspropWarmup>;

}  // namespace loosestep
