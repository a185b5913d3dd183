// fused_attention.hpp: the attention of a decode step in one dispatch: softmax(scale * q k^T) v,
// and before it RoPE (Su et al., 2021) and what the cache gets.
//
// Row r is the newest position of slot r, which sees itself and what lies before it. A stopped
// slot's row gives zeros, and leaves the cache alone. A ring holds the last `capacity` positions;
// other layouts the first: a position that they have no row for is not seen. What split_qkv and
// attention_decode do, for head_dims of so many lanes' 16 bytes, and without norms of q and k.
#pragma once
#include <algorithm>

#include "kernels/attention_combine/attention_combine.hpp"
#include "kernels/kv.hpp"

namespace ms {

struct FusedAttention {
  gpu::View qkv;  // [rows, (heads + 2 kv_heads) head_dim] f32; or without rope, as for every cache
                  // of q8_0, q, ready, and the cache has the newest key: [rows, heads head_dim]
  uint32_t heads = 0;
  KvCache cache;
  gpu::View out = {};   // [rows, heads, head_dim] f32; absent with parts
  gpu::View slots;      // [slots, 32] u32: Slot of kernels/slot.hpp
  gpu::View rope = {};  // [2, max_seq, rotary_dim / 2] f32: cosines, then sines; later positions
                        // use the last line
  bool interleaved = false;     // pairs (2i, 2i + 1); else (i, i + rotary_dim / 2)
  float scale = 0;              // 0: 1 / sqrt(head_dim)
  float attn_softcap = 0;       // 0: off; else tanh(s / c) * c after scale
  uint32_t sliding_window = 0;  // keys, the row's own included; 0: all
  // Instead of out: what up to parts.splits workgroups, which share a query's keys, have found.
  AttentionParts parts = {};

  static constexpr uint32_t split_keys = 64;  // that are worth a workgroup

  struct Overrides {
    uint32_t workgroup_size = 32;
    bool f16_kv = true;
    bool q8_kv = false;
    bool from_qkv = true;
    bool split = false;
    bool windowed = false;
    bool paged = false;
    bool matrix = false;
    uint32_t head_dim = 128;
    uint32_t team = 4;
    uint32_t key_lanes = 8;
    uint32_t keys = 4;

    // Keys that a workgroup looks at together.
    uint32_t held_keys() const {
      if (matrix) return 16 * keys;
      return workgroup_size / key_lanes * keys;
    }

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {32u, 64u, 128u, 256u}, gpu::sizing.powers_to(32, 1024));
      v("F16_KV", f16_kv, {true, false});
      v("Q8_KV", q8_kv, {false, true});
      v("FROM_QKV", from_qkv, {true, false});
      v("SPLIT", split, {false, true});
      v("WINDOWED", windowed, {false, true});
      v("PAGED", paged, {false, true}, gpu::singly);
      v("MATRIX", matrix, {false, true});
      v("HEAD_DIM", head_dim, {128u, 64u, 16u, 32u}, gpu::in_prelude.to(4, 256));
      v("TEAM", team, {4u, 3u, 1u, 2u}, gpu::in_prelude.to(1, 4));
      v("KEY_LANES", key_lanes, {8u, 4u, 1u, 2u}, gpu::in_prelude.powers_to(1, 32));
      v("KEYS", keys, {4u, 1u, 3u, 2u}, gpu::in_prelude.to(1, 4));
    }
    std::string_view refusal() const {
      if (q8_kv && f16_kv) return "a cache is of F16_KV or of Q8_KV";
      if (q8_kv && from_qkv) return "what goes into a cache of Q8_KV split_qkv rounds: no FROM_QKV";
      if (matrix && (!f16_kv || head_dim % 16 != 0 || workgroup_size != 256))
        return "MATRIX takes F16_KV, HEAD_DIM in sixteens and workgroups of 256";
      if (matrix && keys % 2 != 0) return "MATRIX takes KEYS 2 or 4";
      if (matrix && head_dim * keys > 512) return "lanes hold four units of a tile each";
      if (matrix) return "";
      if (q8_kv && head_dim % 32 != 0) return "Q8_KV has a scale for 32 elements";
      if (head_dim % (key_lanes * (f16_kv || q8_kv ? 8 : 4)) != 0)
        return "KEY_LANES lanes have 16 bytes each of a key of HEAD_DIM elements, of Q8_KV 8, or "
               "several times that";
      if (head_dim > 16 * key_lanes) return "a lane's registers hold 16 elements of a key";
      if (key_lanes > workgroup_size) return "KEY_LANES are of one workgroup";
      if (workgroup_size > std::max(128u, 16 * key_lanes))
        return "sixteen keys' lanes are a workgroup at most, or 128";
      return "";
    }
  };
  struct Params {
    uint32_t rows, heads, kv_heads, ratio, teams, team_heads;
    float scale, attn_softcap;
    uint32_t sliding_window, kv_layout, kv_rows, capacity, page_size, splits;
    uint32_t max_seq, rotary_dim, interleaved;
  };
};

extern const gpu::Kernel fused_attention_kernel;

// The parts that a step of so many rows leaves, their words still absent, where dividing the keys
// is of use; splits 0 where it is not.
AttentionParts choose_parts(uint32_t rows, uint32_t heads, const KvCache& cache);

// Units of 16 bytes of workgroup memory that fused_attention_matrices.wgsl takes for tiles of so
// many keys.
uint64_t attention_tile_units(uint32_t head_dim, uint32_t keys);

// Whether a device has it for such heads, and is faster with it than with split_qkv and
// attention_decode.
bool suits_fused_attention(const gpu::Caps& caps, uint32_t head_dim, KvType type);

gpu::Work fused_attention(const gpu::Caps& caps,
                          const FusedAttention& args);  // chooses the overrides
gpu::Work fused_attention(const gpu::Caps& caps, const FusedAttention& args,
                          FusedAttention::Overrides over);

}  // namespace ms
