// apps_test.cpp: the program as its users meet it: what it prints, where, and its exit codes.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/test_files.hpp"
#include "formats/gguf_builder.hpp"
#include "formats/safetensors_builder.hpp"
#include "gpu/device.hpp"
#include "kernels/kernels.hpp"

namespace ms {

namespace {

struct Ran {
  int code = -1;
  std::string out, err;
};
// Runs the program with arguments and, before it, settings of environment variables.
Ran run(const std::string& arguments, const std::string& environment = "") {
  const TemporaryFile out, err;
  const int status = std::system(
      fmt::format(
          "env -u MAINSPRING_DEVICE -u MAINSPRING_TIER -u MAINSPRING_FAST {} {} {} > {} 2> {}",
          environment, MS_PROGRAM, arguments, out.path().string(), err.path().string())
          .c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(out.path()),
          read_file(err.path())};
}

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

}  // namespace

TEST(Program, tells_its_version_and_its_subcommands) {
  const Ran version = run("--version");
  EXPECT_EQ(version.code, 0);
  EXPECT_TRUE(version.out.starts_with("mainspring ")) << version.out;
  const Ran help = run("--help");
  EXPECT_EQ(help.code, 0);
  for (const char* part : {"devices", "inspect", "kernels", "Examples:", "MAINSPRING_DEVICE"})
    EXPECT_SAYS(help.out, part);
}

TEST(Program, a_wrong_use_ends_with_2_and_an_error) {
  for (const char* arguments : {"", "nonsense", "devices --nonsense", "devices -o xml", "inspect",
                                "--tier nonsense devices", "kernels --check nonsense",
                                "kernels --docs --migration", "kernels --check --docs"}) {
    const Ran ran = run(arguments);
    EXPECT_EQ(ran.code, 2) << arguments;
    EXPECT_EQ(ran.out, "") << arguments;
    EXPECT_TRUE(ran.err.starts_with("mainspring: error: ")) << ran.err;
  }
  EXPECT_SAYS(run("nonsense").err, "no subcommand nonsense");
  const Ran tier = run("devices", "MAINSPRING_TIER=nonsense");
  EXPECT_EQ(tier.code, 2);
  EXPECT_SAYS(tier.err, "best, portable, subgroups, f16 or matrix");
}

TEST(Program, what_cannot_be_written_is_an_error) {
  const int status = std::system(MS_PROGRAM " kernels > /dev/full 2> /dev/null");
  EXPECT_EQ(WEXITSTATUS(status), 1);
  const int closed = std::system(MS_PROGRAM " devices >&- 2> /dev/null");
  EXPECT_EQ(WEXITSTATUS(closed), 1);
}

TEST(Devices, lists_what_the_library_finds) {
  const auto adapters = gpu::Device::adapters();
  const Ran text = run("devices");
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_EQ(text.out.find('\x1b'), std::string::npos) << "colours, though this is no terminal";
  const Ran json = run("devices -o json");
  const auto list = nlohmann::json::parse(json.out);
  ASSERT_EQ(list.size(), adapters.size());
  for (size_t i = 0; i < adapters.size(); ++i) {
    EXPECT_SAYS(text.out, adapters[i].name);
    EXPECT_EQ(list[i]["name"], adapters[i].name);
    EXPECT_EQ(list[i]["driver"], adapters[i].driver);
    EXPECT_EQ(list[i]["variant"], to_string(adapters[i].variant));
    EXPECT_EQ(list[i]["limits"]["max_buffer_bytes"], adapters[i].max_buffer_bytes);
  }
}

TEST(Devices, shows_the_chosen_one_as_it_is_opened) {
  for (const Ran& ran :
       {run("--tier portable devices -o json"), run("devices -o json --tier portable"),
        run("devices -o json", "MAINSPRING_TIER=portable")}) {
    ASSERT_EQ(ran.code, 0) << ran.err;
    const auto list = nlohmann::json::parse(ran.out);
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0]["variant"], "portable");
    EXPECT_EQ(list[0]["limits"]["max_storage_buffers"], 8);
  }
  const Ran none = run("devices", "MAINSPRING_DEVICE='no such device'");
  EXPECT_EQ(none.code, 1);
  EXPECT_SAYS(none.err, "mainspring: error: no device \"no such device\"; there are:");
}

TEST(Devices, without_a_driver_says_what_to_install) {
  const Ran ran = run("devices", "VK_DRIVER_FILES=/dev/null VK_ICD_FILENAMES=/dev/null");
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.out, "");
  EXPECT_SAYS(ran.err, "mainspring: error: no WebGPU adapter");
  EXPECT_SAYS(ran.err, "mesa-vulkan-drivers");
}

TEST(Inspect, prints_metadata_tensors_and_totals) {
  const std::vector<float> values(64, 0.5f);
  const TemporaryFile file(
      GgufBuilder()
          .set("general.architecture", "llama")
          .set("tokenizer.ggml.tokens", std::vector<std::string_view>(1000, "word"))
          .set("llama.rope.freq_base", 1e4f)
          .tensor("a.weight", TensorType::q8_0, {2, 32}, values)
          .tensor("b.weight", TensorType::f32, {64}, values)
          .bytes());
  const Ran text = run("inspect " + file.path().string(), "VK_DRIVER_FILES=/dev/null");  // no GPU
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char* part : {"general.architecture", "string[1000]", "\"word\", …", "10000",
                           "[2, 32]", "128 weights", "20.25 bits a weight"})
    EXPECT_SAYS(text.out, part);
  EXPECT_LT(text.out.size(), 2000u) << "the array is not abbreviated";

  const auto json = nlohmann::json::parse(run("inspect -o json " + file.path().string()).out);
  EXPECT_EQ(json["metadata"]["general.architecture"], "llama");
  EXPECT_EQ(json["metadata"]["tokenizer.ggml.tokens"]["length"], 1000);
  EXPECT_LT(json["metadata"]["tokenizer.ggml.tokens"]["first"].size(), 10u);
  EXPECT_EQ(json["tensors"][0]["name"], "a.weight");
  EXPECT_EQ(json["tensors"][0]["shape"], (std::vector<uint64_t>{2, 32}));
  EXPECT_EQ(json["totals"]["by_type"]["q8_0"]["bytes"], 68);
  EXPECT_EQ(json["totals"]["all"]["elements"], 128);
}

TEST(Inspect, reads_a_folder_from_hugging_face) {
  const ModelFolder folder;
  folder.write("config.json", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 8,
      "intermediate_size": 12, "max_position_embeddings": 64, "num_attention_heads": 2,
      "num_hidden_layers": 0, "tie_word_embeddings": true})");
  folder.write("model.safetensors",
               SafetensorsBuilder()
                   .tensor("model.embed_tokens.weight", {4, 8}, std::vector<float>(32, 0.5f))
                   .bytes());
  const Ran text = run("inspect " + folder.path().string(), "VK_DRIVER_FILES=/dev/null");
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char* part : {"Hugging Face folder", "llama.context_length", "token_embd.weight",
                           "f32", "[4, 8]", "32 weights"})
    EXPECT_SAYS(text.out, part);
  folder.write("config.json", "{}");
  const Ran broken = run("inspect " + folder.path().string());
  EXPECT_EQ(broken.code, 1);
  EXPECT_SAYS(broken.err, "config.json: \"architectures\" is missing");
}

TEST(Inspect, a_file_cannot_speak_to_the_terminal) {
  const std::vector<float> values(32, 1);
  const TemporaryFile file(GgufBuilder()
                               .set("evil", "\x1b[2J\x07 and \xff\xfe")
                               .set("list", std::vector<std::string_view>{"\x1b]0;title\x07"})
                               .tensor("name\n\x1b[31m", TensorType::f32, {32}, values)
                               .bytes());
  const Ran text = run("inspect " + file.path().string());
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char c : {'\x1b', '\x07', '\xff'})
    EXPECT_EQ(text.out.find(c), std::string::npos) << int(c);
  const Ran json = run("inspect -o json " + file.path().string());
  ASSERT_EQ(json.code, 0) << json.err;
  EXPECT_TRUE(nlohmann::json::accept(json.out));
}

TEST(Inspect, a_file_that_is_no_model_is_an_error) {
  for (const std::string& contents : {std::string(), std::string("GGUF"), std::string(1000, 'x')}) {
    const TemporaryFile file(contents);
    const Ran ran = run("inspect " + file.path().string());
    EXPECT_EQ(ran.code, 1);
    EXPECT_EQ(ran.out, "");
    EXPECT_SAYS(ran.err, file.path().string());
  }
  EXPECT_EQ(run("inspect /no/such/file").code, 1);
}

TEST(KernelsCommand, lists_each_kernel_with_what_it_computes) {
  const Ran ran = run("kernels");
  ASSERT_EQ(ran.code, 0) << ran.err;
  for (const gpu::Kernel* kernel : all_kernels())
    EXPECT_SAYS(ran.out, fmt::format("{}: ", kernel->name));
  EXPECT_SAYS(ran.out,
              "scale: y = scale * x, element by element, or in place.\n  WORKGROUP_SIZE=256\n");
}

TEST(KernelsCommand, checks_kernels_on_this_device) {
  const TemporaryFile cache;  // which is no folder: nothing is kept
  const std::string environment = "XDG_CACHE_HOME=" + cache.path().string();
  const Ran one = run("kernels --check scale", environment);
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_SAYS(one.out, gpu::Device::adapters().at(0).name);
  EXPECT_SAYS(one.out, "scale  ok ");
  const Ran two = run("--tier portable --fast kernels --check scale", environment);
  EXPECT_EQ(two.code, 0) << two.err;
  EXPECT_SAYS(two.out, "portable, no bounds checks\n");
  EXPECT_SAYS(two.out, "scale  ok ");
}

TEST(KernelsCommand, keeps_compiled_pipelines_in_the_cache_folder) {
  const TemporaryFile placeholder;
  const std::filesystem::path cache = placeholder.path().string() + ".cache";
  EXPECT_EQ(run("kernels --check scale", "XDG_CACHE_HOME=" + cache.string()).code, 0);
  EXPECT_FALSE(std::filesystem::is_empty(cache / "mainspring" / "pipelines"));
  std::filesystem::remove_all(cache);
}

TEST(KernelsCommand, prints_what_replaces_each_old_entry) {
  const Ran ran = run("kernels --migration");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_SAYS(ran.out, "OLD ENTRY");
  EXPECT_SAYS(ran.out, "rmsnorm_small");
  EXPECT_SAYS(ran.out, "115 of 115 rows match their twins");
}

TEST(KernelsCommand, compares_old_files_with_what_replaces_them) {
  const TemporaryFolder folder;
  EXPECT_EQ(run("kernels --before " + folder.path().string()).code, 1);
  std::ofstream(folder.path() / "check_stop.wgsl") << R"(
struct Uniforms { eosTokenId: u32, maxTokens: u32, currentPos: u32, _pad: u32 }
@group(0) @binding(0) var<uniform> uniforms: Uniforms;
@group(0) @binding(1) var<storage, read> sampledToken: array<u32>;
@group(0) @binding(2) var<storage, read_write> shouldStop: array<u32>;
@compute @workgroup_size(1)
fn main() {
  let done = sampledToken[0] == uniforms.eosTokenId || uniforms.currentPos >= uniforms.maxTokens;
  shouldStop[0] = select(0u, 1u, done);
})";
  const Ran ran = run("kernels --before " + folder.path().string());
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_SAYS(ran.out, "   1  equal\n");
  EXPECT_SAYS(ran.out, " 113  no such file\n");
  EXPECT_SAYS(ran.out, "   1  deleted\n");
}

TEST(KernelsCommand, times_overrides_against_constants) {
  const Ran ran = run("kernels --regress scale");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_SAYS(ran.out, "main_inplace");
  EXPECT_SAYS(ran.out, "2 cases: geometric mean of the ratios ");
  EXPECT_EQ(run("kernels --regress nonsense").code, 2);
}

TEST(BenchCommand, times_kernels_by_themselves) {
  const Ran ran = run("bench --kernels topk -o json");
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto report = nlohmann::json::parse(ran.out);
  ASSERT_EQ(report["kernels"].size(), 2u);
  EXPECT_EQ(report["kernels"][0]["kernel"], "topk");
  EXPECT_GT(report["kernels"][0]["us"].get<double>(), 0);
  EXPECT_GT(report["bandwidth_gb_per_s"].get<double>(), 0);
  EXPECT_EQ(run("bench --kernels nonsense").code, 2);
}

TEST(BenchCommand, gives_shares_of_the_fastest) {
  const Ran ran = run("bench --kernels check_stop dequant_mxfp4 matmul -o json");
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto report = nlohmann::json::parse(ran.out);
  std::set<std::string> kernels;
  double most = 0;
  for (const auto& line : report["kernels"]) {
    kernels.insert(line["kernel"]);
    const bool product = line["kernel"] == "matmul";
    EXPECT_EQ(line.contains("share_of_arithmetic"), product);
    EXPECT_FALSE(product && line.contains("share_of_bandwidth"));
    EXPECT_LE(line.value("share_of_bandwidth", 0.0), 1.0);
    if (product) most = std::max(most, line["share_of_arithmetic"].get<double>());
  }
  EXPECT_EQ(kernels, std::set<std::string>({"check_stop", "dequant_mxfp4", "matmul"}));
  EXPECT_EQ(most, 1.0);
}

TEST(BenchCommand, of_kernels_refuses_what_is_for_models) {
  for (const char* arguments : {"-m no/such", "--synthetic llama-1b:f16", "-p 8", "-n 8", "-d 8",
                                "-r 3", "--dispatches", "-ub 64", "-ctk f32"}) {
    const Ran ran = run(fmt::format("bench {} --kernels scale", arguments));
    EXPECT_EQ(ran.code, 2) << arguments;
    EXPECT_EQ(ran.out, "") << arguments;
    EXPECT_SAYS(ran.err, "mainspring: error: bench --kernels takes no --");
  }
  // What the environment says for other commands is no wrong use.
  EXPECT_EQ(run("bench --kernels check_stop", "MAINSPRING_MODEL=no/such").code, 0);
}

TEST(KernelsCommand, docs_are_what_the_repository_has) {
  const Ran ran = run("kernels --docs");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(ran.out == read_file(std::filesystem::path(MS_SOURCE_DIR) / "docs" / "kernels.md"))
      << "docs/kernels.md is out of date: mainspring kernels --docs > docs/kernels.md";
}

}  // namespace ms
