// rope_init.hpp: the tables of rotary embedding (Su et al., 2021), and their frequencies.
#pragma once
#include <span>
#include <utility>
#include <vector>

#include "gpu/work.hpp"

namespace ms {

// How a model's frequencies, base^(-2i / head_dim) radians per position for pair i, are stretched
// to a longer context.
struct RopeScaling {
  enum class Mode : uint32_t {
    linear,  // all divided by factor (Chen et al., 2023); factor 1: no scaling
    ntk,     // base *= factor^(d / (d - 2)): divides the slowest pair by factor, keeps the fastest
    yarn,    // divided from beta_slow turns over the original context, kept from beta_fast
    llama3,  // the same, from low_freq_factor to high_freq_factor (Llama 3.1)
  };
  Mode mode = Mode::linear;
  double factor = 1;                     // of the context's length
  double original_context = 0;           // yarn, llama3: positions that the model knew before
  double beta_fast = 32, beta_slow = 1;  // yarn
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  std::span<const float> factors = {};  // [head_dim / 2], dividing too (rope_freqs.weight), or none
};

// For RopeInit::freqs: [head_dim / 2, 2] u32, turns per position (the frequency / 2 pi, modulo 1)
// as a fraction of 64 bits, the high word first. head_dim counts rotated dimensions only. YaRN
// (Peng et al., 2023) as in its released code, which models are trained with: linear in the pair's
// index between the two, rounded outwards. Throws std::invalid_argument for what makes no sense.
std::vector<uint32_t> rope_frequencies(const RopeScaling& scaling, uint32_t head_dim, double base);

// Throws std::invalid_argument for what makes no sense.
void check_rope_scaling(const RopeScaling& scaling, uint32_t head_dim, double base);

// The pairs between which YaRN goes from all kept, up to the first, to all divided, from the last
// on (but past the first).
std::pair<uint32_t, uint32_t> rope_yarn_ramp(const RopeScaling& scaling, uint32_t head_dim,
                                             double base);

// What YaRN multiplies the tables with, 0.1 ln(factor) + 1; 1 in the other modes and for a factor
// of at most 1.
double rope_attention_factor(const RopeScaling& scaling);

struct RopeInit {
  gpu::View freqs;             // [pairs, 2] u32, of rope_frequencies
  gpu::View cos;               // [max_seq, pairs] f32
  gpu::View sin;               // [max_seq, pairs] f32
  uint32_t start = 0;          // position of the first row
  float attention_factor = 1;  // multiplies both

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t max_seq, pairs, start;
    float attention_factor;
  };
};

extern const gpu::Kernel rope_init_kernel;

gpu::Work rope_init(const gpu::Caps& caps, const RopeInit& args, RopeInit::Overrides over = {});

}  // namespace ms
