// before_test.cpp: old files beside the new kernels: small ones, in the manner of old libraries.
#include "kernels/before.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "base/test_files.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

class BeforeTest : public testing::Test {
 protected:
  void write(const char* name, std::string_view text) {
    std::ofstream(folder_.path() / name) << text;
  }
  std::vector<Compared> compare() {
    return compare_before(folder_.path(),
                          {.cache = MS_BINARY_DIR "/pipelines", .sources = wgsl_sources()});
  }
  const Compared& of(const std::vector<Compared>& results, std::string_view file,
                     std::string_view entry) {
    for (const Compared& result : results)
      if (result.row->file == file && result.row->entry == entry) return result;
    fail("no result of {} {}", file, entry);
  }

  TemporaryFolder folder_;
};

// Names, fields and their order as one version had them.
constexpr std::string_view scale_file = R"(
/* scale.wgsl: y = x * s,
   of any size */
override WORKGROUP_SIZE: u32 = 256u;
struct Uniforms {
  count: u32,   // elements
  scale: f32,
  _pad0: u32,
  _pad1: u32,
}
@group(0) @binding(0)
var<uniform> u: Uniforms;
@binding(1) @group(0) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;
fn index(id: vec3<u32>) -> u32 { return id.x; }
@compute @workgroup_size(WORKGROUP_SIZE, 1, 1)
fn main(@builtin(global_invocation_id) gid: vec3<u32>) {
  let i = index(gid);
  if (i >= u.count) { return; }
  output[i] = input[i] * u.scale;
}
@compute @workgroup_size(WORKGROUP_SIZE, 1, 1)
fn main_inplace(@builtin(global_invocation_id) gid: vec3<u32>) {
  let i = index(gid);
  if (i >= u.count) { return; }
  output[i] = output[i] + u.scale;
}
)";

TEST_F(BeforeTest, equal_and_different_results_are_told_apart) {
  write("scale.wgsl", scale_file);
  const auto results = compare();
  EXPECT_EQ(of(results, "scale.wgsl", "main").before, Before::equal)
      << of(results, "scale.wgsl", "main").detail;
  const Compared& wrong = of(results, "scale.wgsl", "main_inplace");  // adds
  EXPECT_EQ(wrong.before, Before::different);
  EXPECT_NE(wrong.detail.find("1021 of 1021 elements differ"), std::string::npos) << wrong.detail;
  EXPECT_EQ(of(results, "residual.wgsl", "main").before, Before::no_file);
  EXPECT_EQ(of(results, "matmul_f16w_f32a_naive.wgsl", "main").before, Before::deleted);
  EXPECT_EQ(results.size(), migration().size());
}

TEST_F(BeforeTest, a_file_that_does_not_compile_says_where) {
  write("silu.wgsl", R"(
struct Uniforms { size: u32, has_bias: u32, has_gate: u32, pad: u32 }
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>) { output[gid.x] = input[gateIdx]; }
)");
  const auto results = compare();
  const Compared& result = of(results, "silu.wgsl", "main");
  EXPECT_EQ(result.before, Before::does_not_compile);
  EXPECT_NE(result.detail.find("gateIdx"), std::string::npos) << result.detail;
  EXPECT_EQ(of(results, "silu.wgsl", "silu_gate").before, Before::no_entry);
}

// One candidate a workgroup is no top-k.
TEST_F(BeforeTest, a_deliberate_correction_is_named) {
  write("sample.wgsl", R"(
const WG = 256u;
struct Uniforms { vocab_size: u32, top_k: u32, temperature: f32, random_value: f32,
                  pad_token_id: u32, logit_softcap: f32, output_index: u32, pad0: u32 }
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<u32>;
@group(0) @binding(3) var<storage, read_write> topk_indices: array<u32>;
@group(0) @binding(4) var<storage, read_write> topk_logits: array<f32>;
@compute @workgroup_size(1)
fn find_topk_phase1(@builtin(workgroup_id) group: vec3<u32>) {
  var best = group.x * WG;
  for (var i = best; i < min((group.x + 1u) * WG, u.vocab_size); i++) {
    if (logits[i] > logits[best]) { best = i; }
  }
  topk_indices[group.x] = best;
  topk_logits[group.x] = logits[best];
}
@compute @workgroup_size(1)
fn softmax_and_sample() { output[u.output_index] = topk_indices[0]; }
)");
  const auto results = compare();
  const Compared& phase = of(results, "sample.wgsl", "find_topk_phase1");
  EXPECT_EQ(phase.before, Before::corrected);
  EXPECT_TRUE(phase.detail.starts_with("1: top-k is exact")) << phase.detail;
  EXPECT_EQ(of(results, "sample.wgsl", "softmax_and_sample").before, Before::equal);
}

// Two entry points with uniforms of their own at one binding; names that nobody knows.
TEST_F(BeforeTest, what_is_not_understood_is_said_by_name) {
  write("residual.wgsl", R"(
struct A { size: u32, scale: f32 }
struct B { size: u32, fudge: f32 }
@group(0) @binding(0) var<uniform> u: A;
@group(0) @binding(0) var<uniform> other: B;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
@group(0) @binding(1) var<storage, read> mystery: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>) {
  if (gid.x < u.size) { output[gid.x] = a[gid.x] + b[gid.x]; }
}
@compute @workgroup_size(64)
fn add_scaled(@builtin(global_invocation_id) gid: vec3<u32>) {
  if (gid.x < other.size) { output[gid.x] = a[gid.x] + other.fudge * b[gid.x]; }
}
@compute @workgroup_size(64)
fn add_inplace(@builtin(global_invocation_id) gid: vec3<u32>) {
  if (gid.x < u.size) { output[gid.x] = output[gid.x] + mystery[gid.x]; }
}
)");
  const auto results = compare();
  EXPECT_EQ(of(results, "residual.wgsl", "main").before, Before::equal)
      << of(results, "residual.wgsl", "main").detail;
  EXPECT_EQ(of(results, "residual.wgsl", "add_scaled").before, Before::not_understood);
  EXPECT_EQ(of(results, "residual.wgsl", "add_scaled").detail,
            "the uniform field fudge is not known");
  EXPECT_EQ(of(results, "residual.wgsl", "add_inplace").detail, "the binding mystery is not known");
  EXPECT_EQ(of(results, "residual.wgsl", "add_vec4").before, Before::no_entry);
}

// Tables that the file's other entries write, and f16 weights two a word, as old files have them.
TEST_F(BeforeTest, what_other_entries_use_and_packed_halves_are_bound_as_the_file_means_them) {
  write("rope.wgsl", R"(
override WORKGROUP_SIZE: u32 = 256u;
struct Uniforms {
  seq_len: u32, num_heads: u32, head_dim: u32, start_pos: u32,
  rope_base: f32, rope_scale: f32, _pad0: u32, _pad1: u32,
}
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> freqs_cos: array<f32>;
@group(0) @binding(3) var<storage, read_write> freqs_sin: array<f32>;
@compute @workgroup_size(WORKGROUP_SIZE, 1, 1)
fn rope_compute_freqs(@builtin(global_invocation_id) gid: vec3<u32>) {
  let pairs = u.head_dim / 2u;
  if (gid.x >= u.seq_len * u.num_heads * pairs) { return; }
  let head = gid.x / pairs;
  let pair = gid.x % pairs;
  let position = f32(u.start_pos + head / u.num_heads) / u.rope_scale;
  let angle = position / pow(u.rope_base, f32(2u * pair) / f32(u.head_dim));
  let at = head * u.head_dim + pair;
  let x = input[at];
  let y = input[at + pairs];
  input[at] = x * cos(angle) - y * sin(angle);
  input[at + pairs] = x * sin(angle) + y * cos(angle);
}
@compute @workgroup_size(WORKGROUP_SIZE, 1, 1)
fn precompute_freqs(@builtin(global_invocation_id) gid: vec3<u32>) {
  freqs_cos[gid.x] = 1.0;
  freqs_sin[gid.x] = 0.0;
}
)");
  write("fused_ffn.wgsl", R"(
override WORKGROUP_SIZE: u32 = 256u;
struct Uniforms {
  M: u32, hidden_size: u32, intermediate_size: u32, alpha: f32,
  activation: u32, clamp_max: f32, _pad0: u32, _pad1: u32,
}
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> W_gate: array<f32>;
@group(0) @binding(3) var<storage, read> W_up: array<f32>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;
@compute @workgroup_size(WORKGROUP_SIZE, 1, 1)
fn main_f16(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (lane != 0u) { return; }
  var gate = 0.0;
  var up = 0.0;
  for (var k = 0u; k < u.hidden_size; k += 2u) {
    let word = (wg.x * u.hidden_size + k) / 2u;
    let x = vec2f(input[k], input[k + 1u]);
    gate += dot(x, unpack2x16float(bitcast<u32>(W_gate[word])));
    up += dot(x, unpack2x16float(bitcast<u32>(W_up[word])));
  }
  output[wg.x] = gate / (1.0 + exp(-gate)) * up * u.alpha;
}
)");
  const auto results = compare();
  EXPECT_EQ(of(results, "rope.wgsl", "rope_compute_freqs").before, Before::equal)
      << of(results, "rope.wgsl", "rope_compute_freqs").detail;
  EXPECT_EQ(of(results, "fused_ffn.wgsl", "main_f16").before, Before::equal)
      << of(results, "fused_ffn.wgsl", "main_f16").detail;
}

TEST_F(BeforeTest, a_folder_without_old_files_is_an_error) {
  EXPECT_THROW(compare(), Error);
  EXPECT_THROW(compare_before("no/such/folder", {.sources = wgsl_sources()}), Error);
}

}  // namespace

}  // namespace ms
