// rope_precomputed.hpp: rotary embedding (Su et al., 2021) in place, by the tables of rope_init.
#pragma once
#include "gpu/work.hpp"
#include "kernels/kv.hpp"

namespace ms {

struct RopePrecomputed {
  gpu::View cos;            // [max_seq, pairs] f32
  gpu::View sin;            // [max_seq, pairs] f32
  gpu::View x;              // [rows, heads, head_dim] f32, in place; what follows 2 * pairs stays
  StepRows step = {};       // the rows' positions
  bool interleaved = true;  // pairs (2i, 2i + 1), as GGUF lays out llama; else (i, i + pairs)

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t rows, heads, head_dim, rotary_dim, max_seq;
    uint32_t interleaved, start_pos, from_slots, prefill, slot;
  };
};

extern const gpu::Kernel rope_precomputed_kernel;

// Refuses positions past max_seq where it knows them; those of slots then take the last row.
gpu::Work rope_precomputed(const gpu::Caps& caps, const RopePrecomputed& args,
                           RopePrecomputed::Overrides over = {});

}  // namespace ms
