// attention_combine.hpp: the attention of query heads from what splits of their keys have left
// (flash-decoding, Dao et al., 2023).
#pragma once
#include "gpu/work.hpp"

namespace ms {

// What splits leave: values [rows, heads, splits, head_dim], f32 or f16, softmax(scores) v of a
// split's own keys; behind them {peak, total} f32 [rows, heads, splits], the largest score and the
// sum of exp(score - peak). A split without keys leaves zeros, a total of 0 too; the splits with
// keys are the first.
struct AttentionParts {
  gpu::View words = {};                        // u32; absent: there are none
  uint32_t rows = 0, heads = 0, head_dim = 0;  // head_dim a multiple of 16, up to 256
  uint32_t splits = 0;                         // a multiple of 4
  bool f16 = false;

  explicit operator bool() const { return bool(words); }
  uint64_t value_words() const {
    return uint64_t(rows) * heads * splits * head_dim / (f16 ? 2 : 1);
  }
  uint64_t size() const { return value_words() + 2ull * rows * heads * splits; }
};

// Throws std::invalid_argument, in the name of `kernel`, for parts of another form.
void check_parts(std::string_view kernel, const AttentionParts& parts);

// For twins: the attention of a query head, in double; zeros without keys.
std::vector<double> combined_ref(std::span<const uint32_t> words, uint32_t query_heads,
                                 uint32_t head_dim, uint32_t splits, bool f16, uint32_t query_head);

struct AttentionCombine {
  AttentionParts parts;
  gpu::View out;  // [rows, heads, head_dim] f32 or f16

  struct Overrides {
    uint32_t workgroup_size = 64;
    bool f16_parts = true;
    bool f16_out = false;
    uint32_t head_dim = 128;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing);
      v("F16_PARTS", f16_parts, {true, false});
      v("F16_OUT", f16_out, {false, true});
      v("HEAD_DIM", head_dim, {128u, 80u}, gpu::in_prelude.to(16, 256));
    }
    std::string_view refusal() const { return head_dim % 16 ? "HEAD_DIM is read in sixteens" : ""; }
  };
  struct Params {
    uint32_t query_heads, splits;
  };
};

extern const gpu::Kernel attention_combine_kernel;

gpu::Work attention_combine(const gpu::Caps& caps, const AttentionCombine& args);
gpu::Work attention_combine(const gpu::Caps& caps, const AttentionCombine& args,
                            AttentionCombine::Overrides over);

}  // namespace ms
