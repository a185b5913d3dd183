// before_test.cpp: old files beside the new kernels: small ones, in the manner of old libraries.
#include "kernels/before.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "base/test_errors.hpp"
#include "base/test_files.hpp"
#include "kernels/old_wgsl.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

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

class BeforeTest : public testing::Test {
 protected:
  void write(const char* name, std::string_view text) {
    std::ofstream(folder_.path() / name) << text;
  }
  std::vector<Compared> compare() {
    return compare_before(folder_.path(),
                          {.cache = MS_BINARY_DIR "/pipelines", .sources = wgsl_sources()});
  }
  // A file of scale_file's, with something else in it.
  void write_scale(const char* name, std::string_view old, std::string_view now) {
    std::string text(scale_file);
    text.replace(text.find(old), old.size(), now);
    write(name, text);
  }
  const Compared& of(const std::vector<Compared>& results, std::string_view file,
                     std::string_view entry) {
    for (const Compared& result : results)
      if (result.row->file == file && result.row->entry == entry) return result;
    fail("no result of {} {}", file, entry);
  }

  TemporaryFolder folder_;
};

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

// One candidate a workgroup is no top-k; sorting the right candidates is.
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
fn find_topk_phase2() {
  for (var k = 0u; k < u.top_k; k++) {
    for (var i = k + 1u; i < u.top_k; i++) {
      if (topk_logits[i] > topk_logits[k]) {
        let logit = topk_logits[k];
        topk_logits[k] = topk_logits[i];
        topk_logits[i] = logit;
        let index = topk_indices[k];
        topk_indices[k] = topk_indices[i];
        topk_indices[i] = index;
      }
    }
  }
}
@compute @workgroup_size(1)
fn softmax_and_sample() { output[u.output_index] = topk_indices[0]; }
)");
  const auto results = compare();
  const Compared& phase = of(results, "sample.wgsl", "find_topk_phase1");
  EXPECT_EQ(phase.before, Before::corrected);
  EXPECT_TRUE(phase.detail.starts_with("1: top-k is exact")) << phase.detail;
  EXPECT_EQ(of(results, "sample.wgsl", "find_topk_phase2").before, Before::equal)
      << of(results, "sample.wgsl", "find_topk_phase2").detail;
  EXPECT_EQ(of(results, "sample.wgsl", "softmax_and_sample").before, Before::equal);
}

// What a correction changed must be there, and be numbers.
TEST_F(BeforeTest, a_correction_does_not_excuse_what_is_not_written) {
  constexpr std::string_view rope = R"(
struct Uniforms {
  seq_len: u32, num_heads: u32, head_dim: u32, start_pos: u32,
  rope_base: f32, rope_scale: f32, _pad0: u32, _pad1: u32,
}
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> input: array<f32>;
@compute @workgroup_size(64)
fn rope_ntk_scaled(@builtin(global_invocation_id) gid: vec3<u32>) { input[gid.x] = 3.0; }
@compute @workgroup_size(64)
fn rope_yarn(@builtin(global_invocation_id) gid: vec3<u32>) {
  let wide = gid.x + gid.y * 1000000u;
  if (wide < LIMIT) { input[2u * wide] = VALUE; input[2u * wide + 1u] = VALUE; }
}
)";
  const auto yarn = [&](std::string_view limit, std::string_view value) {
    write("rope.wgsl", fmt::format("const LIMIT = {};\n{}", limit, rope));
    std::string text = read_file(folder_.path() / "rope.wgsl");
    for (size_t at; (at = text.find("VALUE")) != text.npos;) text.replace(at, 5, value);
    write("rope.wgsl", text);
    return compare();
  };
  auto results = yarn("120u", "3.0");
  EXPECT_EQ(of(results, "rope.wgsl", "rope_yarn").before, Before::corrected)
      << of(results, "rope.wgsl", "rope_yarn").detail;
  EXPECT_EQ(of(results, "rope.wgsl", "rope_ntk_scaled").before, Before::different);
  results = yarn("0u", "3.0");
  EXPECT_EQ(of(results, "rope.wgsl", "rope_yarn").before, Before::different);
  EXPECT_EQ(of(results, "rope.wgsl", "rope_yarn").detail,
            "input: 240 of 240 elements were not written");
  results = yarn("60u", "3.0");
  EXPECT_EQ(of(results, "rope.wgsl", "rope_yarn").before, Before::different);
  EXPECT_TRUE(of(results, "rope.wgsl", "rope_yarn").detail.ends_with("; 120 were not written"))
      << of(results, "rope.wgsl", "rope_yarn").detail;
  results = yarn("120u", "bitcast<f32>(u.seq_len + 0x7f800000u)");
  EXPECT_EQ(of(results, "rope.wgsl", "rope_yarn").before, Before::different);
  EXPECT_TRUE(of(results, "rope.wgsl", "rope_yarn").detail.ends_with("; 240 are not finite"))
      << of(results, "rope.wgsl", "rope_yarn").detail;
}

// Where it is the correction that the old entry did not write, that alone is excused.
TEST_F(BeforeTest, what_the_old_library_never_wrote_is_a_correction) {
  write("split_qkv.wgsl", R"(
struct Uniforms { numTokens: u32, qSize: u32, kSize: u32, vSize: u32 }
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> Q: array<f32>;
@group(0) @binding(3) var<storage, read_write> K: array<f32>;
@group(0) @binding(4) var<storage, read_write> V: array<f32>;
@compute @workgroup_size(64)
fn main() {}
@compute @workgroup_size(64)
fn split_f16() {}
)");
  const auto rmsnorm = [&](std::string_view weighted) {
    write("rmsnorm.wgsl", fmt::format(R"(
struct Uniforms {{ size: u32, num_tokens: u32, eps: f32, has_residual: u32 }}
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
@compute @workgroup_size(1)
fn rmsnorm_with_prenorm(@builtin(workgroup_id) group: vec3<u32>) {{
  let row = group.x * u.size;
  var squares = 0.0;
  for (var i = 0u; i < u.size; i++) {{ squares += input[row + i] * input[row + i]; }}
  let scale = inverseSqrt(squares / f32(u.size) + u.eps);
  for (var i = 0u; i < u.size; i++) {{ output[row + i] = {}; }}
}}
)",
                                      weighted));
  };
  rmsnorm("input[row + i] * scale * weight[i]");
  auto results = compare();
  EXPECT_EQ(of(results, "split_qkv.wgsl", "main").before, Before::different);
  const Compared& split = of(results, "split_qkv.wgsl", "split_f16");
  EXPECT_EQ(split.before, Before::corrected);
  EXPECT_TRUE(split.detail.starts_with("6: ")) << split.detail;
  const Compared& prenorm = of(results, "rmsnorm.wgsl", "rmsnorm_with_prenorm");
  EXPECT_EQ(prenorm.before, Before::corrected);
  EXPECT_TRUE(prenorm.detail.starts_with("5: ")) << prenorm.detail;
  EXPECT_TRUE(prenorm.detail.ends_with("; prenorm: no such binding")) << prenorm.detail;

  rmsnorm("input[row + i] * scale");
  results = compare();
  EXPECT_EQ(of(results, "rmsnorm.wgsl", "rmsnorm_with_prenorm").before, Before::different);
}

// f32 stored by an entry for f16; and its workgroup sizes and bindings are expressions.
TEST_F(BeforeTest, another_type_is_a_correction_when_the_values_are_right) {
  write("dequant_q8_0.wgsl", R"(
const FIRST = 1;
override LANES: u32 = 0x10u << 1;
struct Uniforms { num_blocks: u32, output_offset: u32, pad0: u32, pad1: u32 }
@group(0) @binding(FIRST - 1) var<uniform> u: Uniforms;
@group(0) @binding(FIRST) var<storage, read> quantized: array<u32>;
@group(0) @binding(2 * FIRST) var<storage, read_write> output: array<f32>;
fn byte(i: u32) -> u32 { return (quantized[i / 4u] >> (i % 4u * 8u)) & 255u; }
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let at = group.x * 34u;
  let scale = unpack2x16float(byte(at) | (byte(at + 1u) << 8u)).x;
  output[group.x * 32u + lane] = scale * f32(bitcast<i32>(byte(at + 2u + lane) << 24u) >> 24u);
}
)");
  const auto results = compare();
  const Compared& result = of(results, "dequant_q8_0.wgsl", "main");
  EXPECT_EQ(result.before, Before::corrected) << result.detail;
  EXPECT_TRUE(result.detail.ends_with("; output: was f32, is f16")) << result.detail;
}

// A workgroup an expert, of any size.
TEST_F(BeforeTest, experts_are_gathered_by_a_workgroup_each) {
  write("moe_gather.wgsl", R"(
struct Uniforms { num_tokens: u32, hidden_size: u32, num_experts: u32, top_k: u32,
                  max_tokens_per_expert: u32, pad0: u32, pad1: u32, pad2: u32 }
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> hidden_states: array<f32>;
@group(0) @binding(2) var<storage, read> expert_indices: array<u32>;
@group(0) @binding(3) var<storage, read_write> gathered: array<f32>;
@group(0) @binding(4) var<storage, read_write> token_counts: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read_write> token_map: array<u32>;
@compute @workgroup_size(1)
fn gather_single_pass(@builtin(workgroup_id) group: vec3<u32>) {
  var row = group.x * u.max_tokens_per_expert;
  for (var pair = 0u; pair < u.num_tokens * u.top_k; pair++) {
    if (expert_indices[pair] != group.x) { continue; }
    let token = pair / u.top_k;
    token_map[2u * row] = token;
    token_map[2u * row + 1u] = pair % u.top_k;
    for (var i = 0u; i < u.hidden_size; i++) {
      gathered[row * u.hidden_size + i] = hidden_states[token * u.hidden_size + i];
    }
    row++;
    atomicAdd(&token_counts[group.x], 1u);
  }
}
)");
  const auto results = compare();
  EXPECT_EQ(of(results, "moe_gather.wgsl", "gather_single_pass").before, Before::equal)
      << of(results, "moe_gather.wgsl", "gather_single_pass").detail;
}

TEST_F(BeforeTest, workgroup_sizes_are_constant_expressions) {
  using Size = std::array<uint32_t, 3>;
  const auto size = [&](std::string_view text) {
    write("scale.wgsl", fmt::format("const WG: u32 = 16 * 16; override LANES = WG / 4u;\n"
                                    "const A = B; const B = A; const C = D + D; const D = C + C;\n"
                                    "@compute @workgroup_size({}) fn main() {{}}",
                                    text));
    return OldWgsl(folder_.path() / "scale.wgsl").workgroup_size("main");
  };
  EXPECT_EQ(size("0x40"), (Size{64, 1, 1}));
  EXPECT_EQ(size("0X4Fu, 8i"), (Size{79, 8, 1}));
  EXPECT_EQ(size("WG"), (Size{256, 1, 1}));
  EXPECT_EQ(size("LANES, 2, WG >> 7,"), (Size{64, 2, 2}));
  EXPECT_EQ(size("2 + 3 * (WG - 250u) % 4, u32(1 << 3)"), (Size{4, 8, 1}));
  const auto refused = [&](std::string_view text, std::string_view why) {
    EXPECT_SAYS(message_of<Error>([&] { size(text); }), why);
  };
  refused("0", "workgroup_size of main: 0 is less than 1");
  refused("64, 0x0", "workgroup_size of main: 0 is less than 1");
  refused("", "workgroup_size of main: its end is no whole number or constant");
  refused("max(1, 2)", "workgroup_size of main: max is no whole number or constant");
  refused("64.0", "workgroup_size of main: . is not understood");
  refused("4294967296", "4294967296 is no whole number or constant");
  refused("WG * WG * WG * WG", "* gives what is no u32");
  refused("1 - 2", "- gives what is no u32");
  refused("WG / 0", "/ cannot be by 0");
  refused("1 << 32", "< cannot be by 32");
  refused("1 < 2", "< is no shift");
  refused("(1 2)", "( is not closed");
  refused("A", "is an operand too many");
  refused("C", "is an operand too many");
  refused(std::string(100'000, '(') + "1" + std::string(100'000, ')'), "is an operand too many");
}

// Files may be long in any one thing, and need not be WGSL.
TEST_F(BeforeTest, no_file_is_too_strange) {
  const std::string much(40'000, 'x');
  write_scale("scale.wgsl", "of any size", "of /* any // */ size " + much + "*** **/ /**");
  std::string table = "const TABLE = array(0.0";
  for (int i = 0; i < 20'000; ++i) table += ", 0.5";
  write("residual.wgsl", R"(
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
struct Uniforms { size: u32, /* )" +
                             much + R"( */ scale: f32 }
)" + table + R"();  // { }
@compute @workgroup_size(0x40)
fn main(@builtin(global_invocation_id) gid: vec3<u32>) {
  if (gid.x < u.size) { output[gid.x] = a[gid.x] + b[gid.x]; }
}
fn add_scaled() {}
)");
  write("silu.wgsl", "");
  std::string binary;
  for (int i = 0; i < 100'000; ++i) binary += char(i * i % 251 + i % 5);
  write("softmax.wgsl", binary);
  write("topk.wgsl",
        "@binding(99999999999) var<uniform> u: U; @compute @workgroup_size(1) fn main( {");
  create_directory(folder_.path() / "gather.wgsl");
  auto results = compare();
  const auto expect = [&](const char* file, const char* entry, Before before,
                          std::string_view detail) {
    const Compared& result = of(results, file, entry);
    EXPECT_EQ(result.before, before) << file << " " << entry << " " << result.detail;
    EXPECT_NE(result.detail.find(detail), std::string::npos) << result.detail;
  };
  expect("scale.wgsl", "main", Before::equal, "");
  expect("residual.wgsl", "main", Before::equal, "");
  expect("residual.wgsl", "add_scaled", Before::no_entry, "");
  expect("silu.wgsl", "main", Before::no_entry, "the file has no compute entry points");
  expect("softmax.wgsl", "main", Before::no_entry, "the file has no compute entry points");
  expect("topk.wgsl", "main", Before::not_understood,
         "binding of u: 99999999999 is no whole number");
  expect("gather.wgsl", "main", Before::not_understood, "gather.wgsl is no regular file");

  write_scale("scale.wgsl", "(WORKGROUP_SIZE", "(0");
  results = compare();
  expect("scale.wgsl", "main", Before::does_not_compile, "must be at least 1");
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
