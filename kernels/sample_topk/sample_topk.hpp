// sample_topk.hpp: draws a token for each row from its logits, as the row's Slot says.
//
// In order: penalties of recent tokens (repetition: Keskar et al., 2019), bias, mask, softcap,
// temperature (0: greedy), top-k, top-p over what that kept (Holtzman et al., 2020), min-p relative
// to the likeliest token (Nguyen et al., 2024), the draw. Exact for any vocabulary and k; ties go
// to the lower id. NaN, minus infinity, masked ids and pad_token_id are never drawn; a row of
// nothing else gives 0. A recorded work is right for whatever parameters the slots come to hold.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct SampleTopk {
  gpu::View slots;    // [rows, 32] u32: struct Slot; those not running keep their rows as they are
  gpu::View logits;   // [rows, vocab] f32; penalties and bias change them in place
  gpu::View sampled;  // [rows] u32
  // What is given is applied; history or bias takes a third dispatch.
  gpu::View history = {};  // [rows, capacity] u32: the token at each position, up to the slot's
  gpu::View bias = {};     // [rows, n, 2] u32: id and f32 bits to add; id 0xffffffff: unused
  gpu::View mask = {};     // [rows, (vocab + 31) / 32] u32: bit id % 32 of word id / 32: allowed
  uint32_t pad_token_id = 0xffffffff;  // 0xffffffff: none
  float logit_softcap = 0;             // c * tanh(logit / c); 0: none

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}); }
    std::string_view refusal() const { return ""; }
  };
  enum Phase : uint32_t { summaries, lists, draw, penalties };
  struct Params {
    uint32_t phase, span, rows, vocab_size, top_k, pad_token_id;
    float logit_softcap;
    uint32_t has_slots, has_mask, capacity, biases, parts;
  };
};

// A draw depends on the row's logits and its slot's parameters, seed and position alone.
gpu::Work sample_topk(const gpu::Caps& caps, const SampleTopk& args);  // chooses the overrides
gpu::Work sample_topk(const gpu::Caps& caps, const SampleTopk& args, SampleTopk::Overrides over);

// The k largest logits of each row and their ids, best first, as the plan's phases 0 and 1 list
// them.
struct TopkLists {
  gpu::View slots = {};    // [rows, 32] u32: struct Slot; those not running keep their rows
  gpu::View logits;        // [rows, vocab] f32, unchanged
  gpu::View topk_indices;  // [rows, k] u32, k <= 256; 0xffffffff where ids run out
  gpu::View topk_logits;   // [rows, k] f32, after the softcap; -3.4e38 where ids run out
  gpu::View mask = {};     // as above, and the next two
  uint32_t pad_token_id = 0xffffffff;
  float logit_softcap = 0;
};
gpu::Work topk_lists(const gpu::Caps& caps, const TopkLists& args);
gpu::Work topk_lists(const gpu::Caps& caps, const TopkLists& args, SampleTopk::Overrides over);

extern const gpu::Kernel sample_topk_kernel;

}  // namespace ms
