// Philox 4x32-10: four random words for every 128-bit counter under a 64-bit key. It has no state, so any
// part of a stream can be computed anywhere. Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011, section 3.4.
#pragma once
#include "rules/rule.hpp"

namespace loosestep {

struct Words {
  unsigned a, b, c, d;
};

struct Key {
  unsigned a, b;
};

HD unsigned high(unsigned x, unsigned y) {
  return static_cast<unsigned>(static_cast<unsigned long long>(x) * y >> 32);
}

HD Words philox_round(Words at, Key key) {
  return {high(0xCD9E8D57u, at.c) ^ at.b ^ key.a, 0xCD9E8D57u * at.c, high(0xD2511F53u, at.a) ^ at.d ^ key.b,
          0xD2511F53u * at.a};
}

template <int rounds = 10> HD Words philox(Words at, Key key) {
  at = philox_round(at, key);
  if constexpr (rounds > 1)
    return philox<rounds - 1>(at, {key.a + 0x9E3779B9u, key.b + 0xBB67AE85u});
  else
    return at;
}

}  // namespace loosestep
