// sample_topk.hpp: draws a token for each row from its logits, by the sampler parameters of the row's Slot.
//
// In order: repetition, presence and frequency penalties; bias; mask; softcap; temperature; top-k; top-p over
// what top-k kept; min-p relative to the most likely token; the draw. All exact for any vocabulary and k, ties
// to the lower id. A recorded work is right for whatever the slots hold, temperature 0 (greedy) included.
// NaN, minus infinity, masked ids and pad_token_id are never drawn; a row of nothing else gives 0.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct SampleTopk {
  gpu::View slots;         // [rows, 32] u32: struct Slot; rows whose slot does not run are left as they are
  gpu::View logits;        // [rows, vocab] f32; penalties and bias change them in place
  gpu::View sampled;       // [rows] u32
  // Each of these adds what it names, when given; history and bias add one dispatch to the two.
  gpu::View history = {};  // [rows, capacity] u32: the token at each position up to Slot::position: penalties
  gpu::View bias = {};     // [rows, n, 2] u32: an id and the f32 added to its logit; id 0xffffffff: an unused pair
  gpu::View mask = {};     // [rows, (vocab + 31) / 32] u32: bit id % 32 of word id / 32 is 1 where id is allowed
  uint32_t pad_token_id = 0xffffffff;  // never drawn; 0xffffffff: none
  float logit_softcap = 0;             // 0: none; c: c * tanh(logit / c)

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}); }
    std::string_view refusal() const { return ""; }
  };
  enum Phase : uint32_t { summaries, lists, draw, penalties };
  struct Params {
    uint32_t phase, span, rows, vocab_size, top_k, pad_token_id;
    float logit_softcap;
    uint32_t has_slots, has_mask, capacity, biases;
  };
};

// The draw depends on the logits, the slot's parameters, its seed and its position alone.
gpu::Work sample_topk(const gpu::Caps& caps, const SampleTopk& args);  // chooses the overrides
gpu::Work sample_topk(const gpu::Caps& caps, const SampleTopk& args, SampleTopk::Overrides over);

// The k largest logits of each row and their ids, largest first, ties by id.
struct TopkLists {
  gpu::View slots = {};    // [rows, 32] u32: struct Slot; rows whose slot does not run are left as they are
  gpu::View logits;        // [rows, vocab] f32, unchanged
  gpu::View topk_indices;  // [rows, k] u32, k <= 256; 0xffffffff beyond the ids that there are
  gpu::View topk_logits;   // [rows, k] f32, after the softcap; -3.4e38 beyond
  gpu::View mask = {};     // as above
  uint32_t pad_token_id = 0xffffffff;
  float logit_softcap = 0;
};
gpu::Work topk_lists(const gpu::Caps& caps, const TopkLists& args);
gpu::Work topk_lists(const gpu::Caps& caps, const TopkLists& args, SampleTopk::Overrides over);

extern const gpu::Kernel sample_topk_kernel;

}  // namespace ms
