// split_qkv.hpp: rows of [q | k | v] taken apart: q as it is, k and v into a KV cache or plainly
// beside it.
//
// On the way, with norms, each head of q and k is normed (RMSNorm, as in Qwen3 and Gemma 3); with
// rope, q and k are rotated (RoPE, Su et al., 2021). What is not written: K and V of a position the
// cache has no row for, and of a stopped slot's row in a decode step.
#pragma once
#include "kernels/kv.hpp"

namespace ms {

struct SplitQkv {
  gpu::View qkv;  // [rows, q_size + k_size + v_size] f32
  gpu::View q;    // [rows, q_size] f32
  KvCache
      cache;  // plain: k [rows, k_size], v [rows, v_size], f16 with each head rounded up to even
  StepRows step = {};
  uint32_t head_dim = 0;  // may be 0 when plain without RoPE: q, k and v are then of one head each
  uint32_t k_size = 0;    // 0: half of what q leaves, as in every cache
  // [2, max_seq, rotary_dim / 2] f32: cosines, then sines; later positions use the last line
  gpu::View rope = {};
  bool interleaved = false;  // pairs (2i, 2i + 1); else (i, i + rotary_dim / 2)
  gpu::View norms = {};      // [2, head_dim] f32: weights for q, then for k
  float eps = 1e-6f;         // of norms

  struct Overrides {
    uint32_t workgroup_size = 64;
    bool f16_out = false;
    bool q8_out = false;
    bool rope = false;
    bool qk_norm = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing);
      v("F16_OUT", f16_out, {false, true});
      v("Q8_OUT", q8_out, {false, true});
      v("ROPE", rope, {false, true});
      v("QK_NORM", qk_norm, {false, true});
    }
    std::string_view refusal() const {
      return q8_out && f16_out ? "a cache is of F16_OUT or of Q8_OUT" : "";
    }
  };
  struct Params {
    uint32_t rows, q_size, k_size, v_size, head_dim;
    uint32_t from_slots, prefill, slot, start_pos;
    uint32_t kv_layout, kv_rows, capacity, page_size;
    uint32_t max_seq, rotary_dim, interleaved;
    float eps;
  };
};

extern const gpu::Kernel split_qkv_kernel;

gpu::Work split_qkv(const gpu::Caps& caps, const SplitQkv& args);  // chooses the overrides
gpu::Work split_qkv(const gpu::Caps& caps, const SplitQkv& args, SplitQkv::Overrides over);

}  // namespace ms
