// sample_argmax_ref.cpp: the CPU twin of sample_argmax.wgsl.
#include <algorithm>

#include "kernels/sample_argmax/sample_argmax.hpp"
#include "kernels/shared/order.hpp"
#include "kernels/slot.hpp"

namespace ms {

void sample_argmax_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<SampleArgmax::Params>();
  const auto over = d.overrides<SampleArgmax::Overrides>();
  const auto slots = d.get<Slot>(0);
  const auto logits = d.get<float>(1), best_logit = d.get<float>(4);
  const auto partials = d.get<uint32_t>(2), sampled = d.get<uint32_t>(3),
             history = d.get<uint32_t>(5);
  const bool all = over.is_reduce_phase || over.single_pass;
  const uint32_t parts = all ? 1 : p.parts, part_size = (p.vocab_size + parts - 1) / parts;
  for (size_t row = 0; row < p.rows; ++row) {
    if (p.has_slots && slots[row].stopped != Stopped::running) continue;
    for (uint32_t part = 0; part < parts; ++part) {
      uint32_t best = 0, id = 0;
      const auto offer = [&](uint32_t key, uint32_t candidate) {
        if (key > best || (key == best && candidate < id)) best = key, id = candidate;
      };
      if (over.is_reduce_phase)
        for (size_t i = row * p.parts; i < (row + 1) * p.parts; ++i)
          offer(partials[2 * i], partials[2 * i + 1]);
      else
        for (uint32_t i = part * part_size; i < std::min(p.vocab_size, (part + 1) * part_size); ++i)
          offer(i == p.pad_token_id ? 0 : key_of(logits[row * p.vocab_size + i]), i);
      if (!all) {
        partials[2 * (row * parts + part)] = best;
        partials[2 * (row * parts + part) + 1] = id;
        continue;
      }
      sampled[row] = id;
      if (p.has_best_logit) best_logit[row] = float(softcap(logit_of(best), p.logit_softcap));
      if (p.capacity) advance(slots[row], id, history.subspan(row * p.capacity, p.capacity));
    }
  }
}

}  // namespace ms
