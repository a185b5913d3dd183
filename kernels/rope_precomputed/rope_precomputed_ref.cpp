// rope_precomputed_ref.cpp: the CPU twin of rope_precomputed.wgsl, in double. It is the
// specification.
#include <algorithm>

#include "kernels/rope_precomputed/rope_precomputed.hpp"
#include "kernels/slot.hpp"

namespace ms {

void rope_precomputed_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<RopePrecomputed::Params>();
  const auto cos = d.get<float>(0), sin = d.get<float>(1), x = d.get<float>(3);
  const auto slots = d.get<Slot>(2);
  const size_t pairs = p.rotary_dim / 2;
  for (uint32_t row = 0; row < p.rows; ++row) {
    uint32_t position = p.start_pos + row;
    if (p.from_slots) position = p.prefill ? slots[p.slot].position + row : slots[row].position;
    const size_t entry = std::min(position, p.max_seq - 1) * pairs;
    for (size_t head = 0; head < p.heads; ++head) {
      const auto v = x.subspan((row * p.heads + head) * p.head_dim, p.head_dim);
      for (size_t i = 0; i < pairs; ++i) {
        const double c = cos[entry + i], s = sin[entry + i];
        float &a = v[p.interleaved ? 2 * i : i], &b = v[p.interleaved ? 2 * i + 1 : i + pairs];
        const double before = a;
        a = float(before * c - b * s);
        b = float(b * c + before * s);
      }
    }
  }
}

}  // namespace ms
