// sample_argmax.hpp: the id of each row's largest logit: greedy sampling.
//
// Ties go to the lowest id. NaN, minus infinity and pad_token_id never win; a row of nothing else
// gives 0. With a history the step ends there: running slots take their tokens as check_stop.hpp
// says.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct SampleArgmax {
  gpu::View slots = {};       // [rows, 32] u32: struct Slot; those not running keep their rows
  gpu::View logits;           // [rows, vocab] f32
  gpu::View sampled;          // [rows] u32
  gpu::View best_logit = {};  // [rows] f32: the winner's, after the softcap; written when given
  gpu::View history = {};     // [rows, capacity] u32, with slots: the token at each position
  gpu::View partials = {};  // [rows, parts, 2] u32: given, IS_REDUCE_PHASE names the only dispatch
  uint32_t pad_token_id = 0xffffffff;  // 0xffffffff: none
  float logit_softcap = 0;             // c * tanh(logit / c), which changes no order; 0: none

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool is_reduce_phase = false;
    bool single_pass = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u});
      v("IS_REDUCE_PHASE", is_reduce_phase, {false, true});
      v("SINGLE_PASS", single_pass, {false, true});
    }
    std::string_view refusal() const {
      return is_reduce_phase && single_pass ? "SINGLE_PASS leaves nothing to reduce" : "";
    }
  };
  struct Params {
    uint32_t rows, vocab_size, parts, pad_token_id;
    float logit_softcap;
    uint32_t has_slots, has_best_logit, capacity;
  };
};

// SINGLE_PASS: one dispatch, of a workgroup a row. Else two, through scratch: workgroups over parts
// of each row, then their reduction.
gpu::Work sample_argmax(const gpu::Caps& caps, const SampleArgmax& args);  // chooses the overrides
gpu::Work sample_argmax(const gpu::Caps& caps, const SampleArgmax& args,
                        SampleArgmax::Overrides over);

extern const gpu::Kernel sample_argmax_kernel;

}  // namespace ms
