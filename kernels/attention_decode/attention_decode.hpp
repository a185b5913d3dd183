// attention_decode.hpp: softmax(scale * q k^T) v of one query per row over the keys its sequence
// has so far.
//
// Any head_dim up to 256, any number of keys, any number of query heads per KV head. No key (kv_len
// 0, or a stopped slot in a decode step) gives zeros. A ring holds the last `capacity` positions;
// other layouts the first. Split: workgroups share a query's keys, and the last of them combines
// what they found (flash-decoding, Dao et al., 2023). Of the rows of one slot, row r sees one key
// more than row r - 1.
#pragma once
#include "kernels/kv.hpp"

namespace ms {

struct AttentionDecode {
  gpu::View q;  // [rows, heads, head_dim] f32
  KvCache cache;
  gpu::View out;  // [rows, heads, head_dim] f32
  StepRows step = {};
  uint32_t kv_len = 0;     // keys of row 0 of slot 0, without step.slots; else a row's position + 1
  float scale = 0;         // 0: 1 / sqrt(head_dim)
  float attn_softcap = 0;  // 0: off; else tanh(s / c) * c after scale
  uint32_t sliding_window = 0;  // keys, the row's own included; 0: all
  // With SPLIT: what workgroups that share a query's keys tell each other, attention_part_words for
  // at least `splits` of them, zeros before and after. Absent: a workgroup has all of a query's
  // keys.
  gpu::View parts = {};  // u32
  uint32_t splits = 0;   // up to 128; 0: chosen, as many as there is room for in parts

  struct Overrides {
    uint32_t workgroup_size = 64;
    bool f16_kv = false;
    bool q8_kv = false;
    bool use_subgroups = true;
    bool multihead = false;
    uint32_t team = 4;
    bool vec4 = false;
    bool chunked = false;
    bool split = false;
    uint32_t head_dim = 0;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {16u, 64u, 128u}, gpu::sizing);
      v("F16_KV", f16_kv, {false, true});
      v("Q8_KV", q8_kv, {false, true});
      v("USE_SUBGROUPS", use_subgroups, {false, true});
      v("MULTIHEAD", multihead, {false, true});
      v("TEAM", team, {2u, 4u}, gpu::sizing.to(2, 4));
      v("VEC4", vec4, {false, true}, gpu::sizing);
      v("CHUNKED", chunked, {false, true}, gpu::sizing);
      v("SPLIT", split, {false, true});
      v("HEAD_DIM", head_dim, {0u, 128u}, gpu::sizing.to(0, 256));
    }
    std::string_view refusal() const {
      if (q8_kv && f16_kv) return "a cache is of F16_KV or of Q8_KV";
      if (q8_kv && vec4) return "VEC4 is for f32 and f16: heads of q8_0 are always read so";
      return "";
    }
  };
  struct Params {
    uint32_t rows, heads, kv_heads, head_dim;
    uint32_t kv_len, kv_len_source, prefill, slot;
    float scale, attn_softcap;
    uint32_t sliding_window, kv_layout, kv_rows, capacity, page_size;
    uint32_t splits, split_keys;
  };
};

extern const gpu::Kernel attention_decode_kernel;

// Words of `parts` for so many rows and splits.
uint64_t attention_part_words(uint64_t rows, uint32_t heads, uint32_t head_dim, uint32_t splits);
// Throws std::invalid_argument, in the name of `kernel`, where parts do not hold them.
void check_attention_parts(std::string_view kernel, const gpu::View& parts, uint64_t rows,
                           uint32_t heads, uint32_t head_dim, uint32_t splits);
// The most splits that are of use on a device for a cache of so many positions; 1: none.
uint32_t attention_splits(const gpu::Caps& caps, uint32_t rows, uint32_t heads, uint32_t kv_heads,
                          uint32_t positions);

gpu::Work attention_decode(const gpu::Caps& caps,
                           const AttentionDecode& args);  // chooses the overrides
gpu::Work attention_decode(const gpu::Caps& caps, const AttentionDecode& args,
                           AttentionDecode::Overrides over);

}  // namespace ms
