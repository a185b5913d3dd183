// order.hpp: the host's form of order.wgsl, for twins.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace ms {

// Larger logit, larger key; 0 for what is never sampled: NaN and minus infinity. Both zeros are one
// key.
inline uint32_t key_of(float logit) {
  if (std::isnan(logit) || logit == -INFINITY) return 0;
  const uint32_t bits = std::bit_cast<uint32_t>(logit);
  if (logit == 0) return 0x80000000;
  return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

// The inverse, within the finite numbers.
inline float logit_of(uint32_t key) {
  key = std::clamp(key, 0x00800000u, 0xff7fffffu);
  return std::bit_cast<float>(key & 0x80000000 ? key & 0x7fffffff : ~key);
}

inline double softcap(double logit, double cap) {
  return cap == 0 ? logit : cap * std::tanh(logit / cap);
}

}  // namespace ms
