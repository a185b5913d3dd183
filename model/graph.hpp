// graph.hpp: what the layers of decoder models are made of: their weights, and the steps of a pass
// through them as work on the GPU.
#pragma once
#include <vector>

#include "kernels/kernels.hpp"
#include "model/config.hpp"

namespace ms {

// A matrix in parts, consecutive rows of one type each, and what is added to its product.
struct Linear {
  struct Part {
    Weight weight;
    uint32_t first_row = 0;
  };
  std::vector<Part> parts;
  gpu::View bias = {};  // [rows] f32, or absent
};

// down(act(gate(x)) * up(x)); or as many of them as there are experts, each one's rows behind the
// other's.
struct GatedFfn {
  Linear gate_up;    // [2 ffn, dim]: rows of gate and up in turn; or of two types, one after the
  bool interleaved;  // other
  Weight down;       // [dim, ffn]
};

struct Layer {
  gpu::View attn_norm;            // [dim] f32
  Linear qkv;                     // [q_size + 2 kv_size, dim]
  gpu::View qk_norms = {};        // [2, head_dim] f32: of each head of q, and of k; or absent
  Weight attn_output;             // [dim, q_size]
  gpu::View post_attn_norm = {};  // [dim] f32: of what attention adds; or absent
  gpu::View ffn_norm;             // [dim] f32
  gpu::View post_ffn_norm = {};   // [dim] f32: of what the feed-forward network adds; or absent
  Weight router = {};             // [experts, dim]; or absent, as the experts of ffn
  GatedFfn ffn;
  KvCache cache = {};
};

// As fused_layer takes it.
FusedLayer::Layer fused(const Layer& layer);

struct DecoderWeights {
  Weight embedding;  // [vocab, dim]
  std::vector<Layer> layers;
  gpu::View output_norm;  // [dim] f32
  Linear output;          // [vocab, dim]; the embedding when tied
  // [2, positions, rotary_dim / 2] f32: cosines, then sines. Of windowed layers, where their RoPE
  // is another: local_rope.
  gpu::View rope, local_rope;
};

// Memory of what is between layers, for as many rows as a batch has.
struct Activations {
  // Inputs and outputs of a dispatch are never of one buffer.
  gpu::View hidden, hidden2, normed;  // [batch, dim] f32
  gpu::View qkv, q, attended;         // [batch, …] f32
  gpu::View gate_up, ffn;             // [rows, 2 ffn], [rows, ffn] f32
  gpu::View exchange;                 // u32, of a persistent step: fused_layer's; or absent
  gpu::View places;                   // the same
  gpu::View attention_parts;  // u32, of a decode step: attention_decode's `parts`; or absent
  // Of a mixture of experts, of which a row is a token at one of its experts.
  gpu::View router_logits;               // [batch, experts] f32
  gpu::View expert_ids, expert_weights;  // [batch, experts_used] u32, f32
  gpu::View expert_in, expert_out;       // [rows, dim] f32, sorted by expert
  gpu::View expert_counts;               // [experts] u32
  gpu::View row_tokens;                  // [rows, 2] u32
  gpu::View row_experts;                 // [rows, 1] u32
  gpu::View token_rows;                  // [batch, experts_used] u32
};

// One pass: a decode step, in which row r is the token of slot r, or a prefill, all of whose rows
// are of one slot. An architecture's graph calls the functions below in turn; each adds its work,
// of the kernels that suit the kind of pass. h, [rows, dim], is the residual stream.
class Pass {
 public:
  struct Options {
    bool int16_activations = false;
    bool persistent = false;  // of a step of one row: a layer from attention to attention in one
    bool whole = false;       // dispatch; and with it all layers, with their attentions;
    uint32_t groups = 0;      // of so many workgroups, or 0
    StepRows step;
    gpu::View tokens;           // u32: the token of row r is word r * token_stride
    uint32_t token_stride = 1;  // words
    // What is wanted but the KV cache: logits [rows, vocab] f32, or nothing, or the states that
    // they would be made of, in Activations::normed.
    gpu::View logits = {};
    bool states = false;
  };
  // Up to how many sequences a step's products are GEMVs: a sequence's logits are then the same,
  // bit for bit, alone and in company. Beyond, they are matmuls, where a device is faster with
  // them.
  static uint32_t few_rows(const gpu::Caps& caps);

  Pass(const gpu::Caps& caps, const Config& config, const Activations& memory, uint32_t rows,
       const Options& options);

  // h = the tokens' rows of the table, times the model's scale.
  void embed(const Weight& table);
  // [q | k | v] = W norm(h) + bias
  void qkv(const gpu::View& norm, const Linear& weight);
  // q and k rotated by their positions (RoPE, Su et al., 2021), after a norm of each head where
  // there is one; k and v to the cache. Or left to attention(), where that does it on the way.
  void rope(const KvCache& cache, const gpu::View& tables, const gpu::View& qk_norms = {});
  // Whether nothing reads what follows the last layer's cache.
  bool fills_cache_only() const { return !options_.logits && !options_.states; }
  // h += alpha W attention(q, cache), over the last `window` keys, or 0: all; or += post_norm(…).
  void attention(const KvCache& cache, uint32_t window, const Weight& output,
                 const gpu::View& post_norm = {});
  // h += alpha ffn(norm(h)), or h += post_norm(…)
  void feed_forward(const gpu::View& norm, const GatedFfn& ffn, const gpu::View& post_norm = {});
  // h += what the experts that the router chooses make of norm(h), weighted (Mixtral, Jiang et al.,
  // 2024)
  void mixture(const gpu::View& norm, const Weight& router, const GatedFfn& experts);
  // logits = alpha W norm(h), or no more than norm(h)
  void logits(const gpu::View& norm, const Linear& output);

  gpu::Work take() { return std::move(work_); }

 private:
  bool step() const { return !options_.step.prefill; }
  // Whether products are GEMVs, which read a weight once for as many rows as they take at once.
  bool few() const { return step() && rows_ <= few_rows(caps_); }
  // Where what this weight is to be multiplied with is to lie: in the view, or as f16 in its
  // memory.
  gpu::View factor_of(const Weight& weight, const gpu::View& view) const;
  // y = alpha W norm(x) + bias; with experts, [rows of x] u32, of each row's own expert's W.
  void linear(const gpu::View& x, const gpu::View& norm, const Linear& weight, const gpu::View& y,
              float alpha = 1, const gpu::View& experts = {});
  // y = act(gate(norm(x))) * up(norm(x)), with gate_up as room for both; experts as of linear().
  void gate(const gpu::View& x, const gpu::View& norm, const GatedFfn& ffn,
            const gpu::View& gate_up, const gpu::View& y, const gpu::View& experts = {});
  // h += alpha W x, alpha being the model's residual_scale, or h += post_norm(W x)
  void add(const gpu::View& x, const Weight& weight, const gpu::View& post_norm);

  // h += alpha W attended; of a persistent step it is left to fused_layer, as all that follows.
  void add_attended(const Weight& output, const gpu::View& post_norm);
  // What a persistent step has left, with the next layer's qkv if that is given.
  void end_layer(const FusedLayer::Layer& next = {});

  const gpu::Caps& caps_;
  const Config& config_;
  const Activations& memory_;
  uint32_t rows_;
  Options options_;
  gpu::View h_, h2_;  // [rows, dim] f32: by turns
  gpu::View normed_, qkv_, q_, attended_, gate_up_, ffn_;
  gpu::View rope_;          // the tables, where rope() left it to attention()
  FusedLayer layer_;        // of a persistent step, from its attention on
  FusedLayer::Layer next_;  // of it, the layer that has begun
  uint32_t layers_ = 0;     // before that
  gpu::Work left_;          // the attention, whose parts layer_ reads
  gpu::Work work_;
};

}  // namespace ms
