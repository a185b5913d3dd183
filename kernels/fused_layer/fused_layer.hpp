// fused_layer.hpp: what a decode step of one sequence does between two attentions, in one dispatch:
// h = x + alpha O a, y = h + alpha D (act(G n) * (U n)), n = norm(h) (GLU variants, Shazeer 2020),
// and qkv = W next_norm(y) of the next layer. The vectors that matrices meet are 16-bit integers.
#pragma once
#include "kernels/attention_combine/attention_combine.hpp"
#include "kernels/fused_ffn/fused_ffn.hpp"

namespace ms {

struct FusedLayer {
  gpu::View attended = {};    // a: [1, O's columns] f32
  AttentionParts parts = {};  // in place of it: of one row
  gpu::View x;                // [1, dim] f32: becomes y
  gpu::View norm;             // [dim] f32
  // All of f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k; or D of q6_k beside others of q4_k or q5_k.
  // Their quants lie in one buffer, and their scales in one, as near as a binding reaches.
  Weight output;   // O [dim, heads * head_dim]
  Weight gate_up;  // [2 ffn, dim]: gate row 0, up row 0, gate row 1, …
  Weight down;     // D [dim, ffn]
  // Of the next layer, or absent:
  gpu::View next_norm = {};  // [dim] f32
  Weight qkv_weight = {};    // W [rows, dim]
  // Its last rows, of q6_k beside others of q4_k or q5_k and an even number of them. Or absent.
  Weight v_weight = {};
  gpu::View qkv = {};  // [1, rows of both] f32
  gpu::View exchange;  // u32, exchange_words(dim, ffn), of a step: zeros before the first
  // [1, 32] u32: Slot. Stopped as `stalled` when a workgroup has waited in vain: results are wrong.
  gpu::View slots;
  Activation activation = Activation::silu;
  float alpha = 1;
  float eps = 1e-6f;
  uint32_t groups = 0;  // workgroups, which wait for each other; 0: chosen

  // What it binds of a stage's storage buffers, of which WebGPU promises 8.
  static constexpr uint32_t storage_buffers = 9;
  static uint64_t exchange_words(uint32_t dim, uint32_t ffn) {
    return 4 + 4 * 12 * (2ull * (dim / 16) + ffn / 16);  // a head, and four copies
  }

  struct Overrides {
    uint32_t workgroup_size = 512;
    uint32_t weight_type = 4;
    bool down_q6_k = false;
    bool v_q6_k = false;
    bool parts = false;
    bool f16_parts = false;
    uint32_t halves = 512;
    uint32_t head_dim = 128;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {128u, 512u}, gpu::sizing.powers_to(32, 1024));
      v("WEIGHT_TYPE", weight_type, {4u, 1u, 3u, 10u, 2u, 11u, 12u}, gpu::singly);
      v("DOWN_Q6_K", down_q6_k, {false, true});
      v("V_Q6_K", v_q6_k, {false, true});
      v("PARTS", parts, {false, true});
      v("F16_PARTS", f16_parts, {false, true});
      v("HALVES", halves, {64u, 512u}, gpu::sizing.to(16, 4096));
      v("HEAD_DIM", head_dim, {128u, 32u}, gpu::in_prelude.to(16, 256));
    }
    std::string_view refusal() const {
      if (f16_parts && !parts) return "F16_PARTS says of what the PARTS are";
      if ((down_q6_k || v_q6_k) && weight_type != uint32_t(WeightType::q4_k) &&
          weight_type != uint32_t(WeightType::q5_k))
        return "DOWN_Q6_K and V_Q6_K go with Q4_K and Q5_K";
      return head_dim % 16 ? "HEAD_DIM is read in sixteens" : "";
    }
  };
  struct Params {
    uint32_t dim, heads_dim, ffn, qkv_rows;
    float alpha;
    uint32_t activation;
    float eps;
    uint32_t splits, patience, o_quants, o_scales, gate_up_quants, gate_up_scales, down_quants,
        down_scales, w_quants, w_scales, v_quants, v_scales, v_first;
  };
};

extern const gpu::Kernel fused_layer_kernel;

// Why the kernel takes no such weights, or the device not the kernel; or empty.
std::string fused_layer_refusal(const gpu::Caps& caps, const Weight& output, const Weight& gate_up,
                                const Weight& down);
// Whether W, and its last rows if they are apart, may be what it reads beside the others.
bool suits_fused_layer(const gpu::Caps& caps, const Weight& output, const Weight& gate_up,
                       const Weight& down, const Weight& qkv, const Weight& v = {});

gpu::Work fused_layer(const gpu::Caps& caps, const FusedLayer& args);
gpu::Work fused_layer(const gpu::Caps& caps, const FusedLayer& args, FusedLayer::Overrides over);

}  // namespace ms
