// attention_prefill.hpp: softmax(scale * q k^T) v for many queries of one sequence, causal or not.
//
// Any head_dim up to 256, any number of keys, any number of query heads per KV head. A query that
// sees no key gives zeros. A ring holds the last `capacity` positions, other layouts the first.
#pragma once
#include "kernels/kv.hpp"

namespace ms {

struct AttentionPrefill {
  gpu::View q;  // [rows, heads, head_dim] f32
  KvCache cache;
  gpu::View out;  // [rows, heads, head_dim] f32
  StepRows step =
      {};  // with slots: the rows of step.slot, from its position on, which the cache holds already
  uint32_t kv_len = 0;          // without slots: keys there are
  bool is_causal = true;        // a query sees keys up to its own position
  float scale = 0;              // 0: 1 / sqrt(head_dim)
  float attn_softcap = 0;       // 0: off; else tanh(s / c) * c after scale
  uint32_t sliding_window = 0;  // keys, the query's own included; 0: all

  struct Overrides {
    bool f16_kv = false;
    bool q8_kv = false;
    bool small_tiles = false;
    uint32_t block_size = 64;
    uint32_t head_tile = 64;
    bool use_subgroups = false;
    bool matrix = false;

    void visit(auto&& v) {
      v("F16_KV", f16_kv, {false, true});
      v("Q8_KV", q8_kv, {false, true});
      v("SMALL_TILES", small_tiles, {false, true});
      v("BLOCK_SIZE", block_size, {32u, 64u, 128u});
      v("HEAD_TILE", head_tile, {32u, 64u, 128u});
      v("USE_SUBGROUPS", use_subgroups, {false, true});
      v("MATRIX", matrix, {false, true});
    }
    std::string_view refusal() const {
      if (q8_kv && f16_kv) return "a cache is of F16_KV or of Q8_KV";
      if (matrix && (!(f16_kv || q8_kv) || small_tiles))
        return "MATRIX multiplies f16 in tiles of 32 keys: with F16_KV or Q8_KV, without "
               "SMALL_TILES";
      if (matrix && use_subgroups) return "USE_SUBGROUPS is for what lanes all need, not MATRIX";
      if (matrix && (block_size != 128 || head_tile < 64))
        return "MATRIX has 128 lanes, and holds 64 or 128 dimensions";
      if (!matrix && (block_size > 64 || head_tile > 64))
        return "a lane has registers for 64 dimensions, and a workgroup 64 queries";
      return "";
    }
  };
  struct Params {
    uint32_t rows, heads, kv_heads, head_dim, kv_len, kv_len_source, slot, start_pos, is_causal;
    float scale, attn_softcap;
    uint32_t sliding_window, kv_layout, kv_rows, capacity, page_size;
  };
};

extern const gpu::Kernel attention_prefill_kernel;

gpu::Work attention_prefill(const gpu::Caps& caps,
                            const AttentionPrefill& args);  // chooses the overrides
gpu::Work attention_prefill(const gpu::Caps& caps, const AttentionPrefill& args,
                            AttentionPrefill::Overrides over);

}  // namespace ms
