// fused_layer.hpp: what a decode step of one sequence does between two attentions, in one dispatch:
// h = x + alpha O a, y = h + alpha D (act(G n) * (U n)), n = norm(h) (GLU variants, Shazeer 2020),
// and qkv = W attn_norm(y) of the next layer. Or several layers with their attentions, as
// fused_attention has it, from the first one's norm on. The vectors that matrices meet are 16-bit
// integers.
#pragma once
#include <vector>

#include "kernels/attention_combine/attention_combine.hpp"
#include "kernels/fused_ffn/fused_ffn.hpp"
#include "kernels/kv.hpp"

namespace ms {

struct FusedLayer {
  // A layer's weights: all of f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k; or D, and W's last rows,
  // of q6_k beside others of q4_k or q5_k. Their quants lie in one buffer, and their scales and
  // norms in one, which one binding reaches.
  struct Layer {
    gpu::View attn_norm = {};  // [dim] f32: of what W meets
    gpu::View ffn_norm = {};   // [dim] f32
    Weight qkv = {};           // W [rows, dim]
    Weight v = {};             // its last rows, of q6_k beside others, an even number. Or absent.
    gpu::View qkv_bias = {};   // [rows of W] f32: added to W's product. Or absent.
    Weight output = {};        // O [dim, heads * head_dim]
    Weight gate_up = {};       // [2 ffn, dim]: gate row 0, up row 0, gate row 1, …
    Weight down = {};          // D [dim, ffn]
    KvCache cache = {};        // of f16, contiguous; those of all layers in one buffer each
  };
  gpu::View attended = {};    // a: [1, O's columns] f32
  AttentionParts parts = {};  // in place of it: of one row
  gpu::View x;                // [1, dim] f32: becomes y
  std::vector<Layer> layers;  // one, or with attention those behind each other
  Layer next = {};            // whose W m follows. Or absent.
  gpu::View places;           // [all layers, 16] u32: what place() says of each
  uint32_t first_layer = 0;   // line of places
  gpu::View qkv = {};         // [1, rows of W and v] f32: of next
  gpu::View exchange;         // u32, exchange_words(), of a step: zeros before the first
  // [1, 32] u32: Slot. Stopped as `stalled` when a workgroup has waited in vain: results are wrong.
  gpu::View slots;
  Activation activation = Activation::silu;
  float alpha = 1;
  float eps = 1e-6f;
  uint32_t groups = 0;  // workgroups, which wait for each other; 0: chosen

  // With attention, as fused_attention has it: in place of attended and parts.
  uint32_t heads = 0;
  gpu::View rope = {};  // [2, max_seq, rotary_dim / 2] f32
  bool interleaved = false;
  float scale = 0;
  float attn_softcap = 0;

  // What it binds of a stage's storage buffers, of which WebGPU promises 8.
  static constexpr uint32_t storage_buffers = 11;
  static constexpr uint32_t most_splits = 16;
  static uint64_t exchange_words(uint32_t dim, uint32_t ffn, uint32_t heads, uint32_t kv_heads,
                                 uint32_t head_dim) {
    const uint64_t units = 3 * (2ull * (dim / 16) + ffn / 16) +
                           (heads + 2ull * kv_heads) * head_dim / 4 +
                           most_splits * uint64_t(heads) * (head_dim / 8 + 1);
    return 8 + 4 * 4 * 4 * units;  // a head; four copies in four regions
  }
  // Where a layer lies: a line of places. Of each matrix its first unit of quants, of 16 bytes, and
  // of scales, of 4; of v its first row, or none; of norms, bias and cache the first element, or
  // unit.
  struct Places {
    uint32_t o_quants, o_scales, gate_up_quants, gate_up_scales, down_quants, down_scales, w_quants,
        w_scales, v_quants, v_scales, v_first, down_q6_k, attn_norm, ffn_norm, cache, qkv_bias;
  };
  static Places place(const Layer& layer);

  struct Overrides {
    uint32_t workgroup_size = 512;
    uint32_t weight_type = 4;
    bool some_q6_k = false;
    bool attention = false;
    bool parts = false;
    bool f16_parts = false;
    uint32_t layers = 1;
    uint32_t halves = 512;
    uint32_t head_dim = 128;
    uint32_t team = 4;
    uint32_t keys = 2;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {256u, 512u}, gpu::sizing.powers_to(32, 1024));
      v("WEIGHT_TYPE", weight_type, {4u, 1u, 3u, 10u, 2u, 11u, 12u}, gpu::singly);
      v("SOME_Q6_K", some_q6_k, {false, true});
      v("ATTENTION", attention, {false, true});
      v("PARTS", parts, {false, true});
      v("F16_PARTS", f16_parts, {false, true});
      v("LAYERS", layers, {1u, 2u}, gpu::sizing.to(1, 128));
      v("HALVES", halves, {64u, 512u}, gpu::sizing.to(16, 4096));
      v("HEAD_DIM", head_dim, {128u, 32u}, gpu::in_prelude.to(16, 256));
      v("TEAM", team, {4u, 3u}, gpu::in_prelude.to(1, 4));
      v("KEYS", keys, {2u, 4u}, gpu::in_prelude.to(1, 4));
    }
    std::string_view refusal() const {
      if (attention && parts) return "PARTS are of an attention before this dispatch";
      if (attention && (workgroup_size < 256 || keys % 2 != 0 || keys * head_dim > 512))
        return "ATTENTION takes workgroups of 256 or more, KEYS 2 or 4 and HEAD_DIM * KEYS <= 512";
      if (f16_parts && !parts) return "F16_PARTS says of what the PARTS are";
      if (some_q6_k && weight_type != uint32_t(WeightType::q4_k) &&
          weight_type != uint32_t(WeightType::q5_k))
        return "SOME_Q6_K goes with Q4_K and Q5_K";
      return head_dim % 16 ? "HEAD_DIM is read in sixteens" : "";
    }
  };
  struct Params {
    uint32_t dim, heads_dim, ffn, qkv_rows;
    float alpha;
    uint32_t activation;
    float eps;
    uint32_t first_layer, layer_count, qkv_follows, patience, splits;
    uint32_t heads, kv_heads, ratio, teams, team_heads;
    float scale, attn_softcap;
    uint32_t capacity, max_seq, rotary_dim, interleaved;
  };
};

extern const gpu::Kernel fused_layer_kernel;

// Why the kernel takes no such layer, or the device not the kernel; or empty.
std::string fused_layer_refusal(const gpu::Caps& caps, const FusedLayer::Layer& layer);
// Whether the next layer's W may be what it reads beside a layer's.
bool suits_fused_layer(const gpu::Caps& caps, const FusedLayer::Layer& layer,
                       const FusedLayer::Layer& next);
// Whether it takes attention over such a cache, of so many heads.
bool suits_fused_attention_within(const gpu::Caps& caps, uint32_t heads, const KvCache& cache,
                                  const gpu::View& rope);

gpu::Work fused_layer(const gpu::Caps& caps, const FusedLayer& args);
gpu::Work fused_layer(const gpu::Caps& caps, const FusedLayer& args, FusedLayer::Overrides over);

}  // namespace ms
