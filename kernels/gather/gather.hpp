// gather.hpp: rows of an embedding table of any weight type, by token id, as f32.
#pragma once
#include "gpu/work.hpp"
#include "kernels/weight.hpp"

namespace ms {

struct Gather {
  gpu::View indices;  // u32: id i is word index_offset + i * index_stride
  Weight table;       // [vocab, hidden], or [hidden, vocab] with transpose
  gpu::View y;        // [tokens, hidden] f32; an id outside the vocabulary gives zeros
  bool transpose = false;
  uint32_t index_offset = 0;
  uint32_t index_stride = 1;

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool use_vec4 = false;
    bool f16_embeddings = false;
    uint32_t weight_type = 0;
    uint32_t row_tile = 1;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing);
      v("USE_VEC4", use_vec4, {false, true});
      v("F16_EMBEDDINGS", f16_embeddings, {false, true});
      v("WEIGHT_TYPE", weight_type, all_weight_types);
      v("ROW_TILE", row_tile, {8u, 1u}, gpu::sizing);
    }
    std::string_view refusal() const {
      return f16_embeddings && weight_type != 0
                 ? "F16_EMBEDDINGS names the table's type: WEIGHT_TYPE stays 0"
                 : "";
    }
  };
  struct Params {
    uint32_t num_tokens, hidden_size, vocab_size, transpose, index_offset, index_stride, row_blocks,
        first_id, num_ids;
  };
};

extern const gpu::Kernel gather_kernel;

gpu::Work gather(const gpu::Caps& caps, const Gather& args);
gpu::Work gather(const gpu::Caps& caps, const Gather& args, Gather::Overrides over);

}  // namespace ms
