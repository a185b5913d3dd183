// attention_streaming.hpp: softmax(scale * q k^T) v with hardly any workgroup memory: rows of one
// sequence or a row of each, causal or not.
//
// Any head_dim up to 256, any number of keys, any number of query heads per KV head. A query that
// sees no key, or whose slot has stopped, gives zeros. A ring holds the last `capacity` positions,
// other layouts the first. attention_prefill and attention_decode are faster where they fit.
#pragma once
#include "kernels/kv.hpp"

namespace ms {

struct AttentionStreaming {
  gpu::View q;  // [rows, heads, head_dim] f32
  KvCache cache;
  gpu::View out;                // [rows, heads, head_dim] f32
  StepRows step = {};           // with slots: the cache holds the rows' own keys already
  uint32_t kv_len = 0;          // without slots: keys there are
  bool is_causal = true;        // a query sees keys up to its own position
  float scale = 0;              // 0: 1 / sqrt(head_dim)
  float attn_softcap = 0;       // 0: off; else tanh(s / c) * c after scale
  uint32_t sliding_window = 0;  // keys, the query's own included; 0: all

  struct Overrides {
    uint32_t workgroup_size = 64;  // power of two, 64 or more
    bool f16_kv = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 128u}, gpu::sizing);
      v("F16_KV", f16_kv, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t rows, heads, kv_heads, head_dim, kv_len, kv_len_source, prefill, slot, start_pos,
        is_causal;
    float scale, attn_softcap;
    uint32_t sliding_window, kv_layout, kv_rows, capacity, page_size;
  };
};

extern const gpu::Kernel attention_streaming_kernel;

gpu::Work attention_streaming(const gpu::Caps& caps, const AttentionStreaming& args);
gpu::Work attention_streaming(const gpu::Caps& caps, const AttentionStreaming& args,
                              AttentionStreaming::Overrides over);

}  // namespace ms
