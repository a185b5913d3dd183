// apps_test.cpp: the program as its users meet it: what it prints, where, and its exit codes.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/test_files.hpp"
#include "formats/gguf_builder.hpp"
#include "formats/safetensors_builder.hpp"
#include "gpu/device.hpp"
#include "kernels/kernels.hpp"
#include "text/utf8.hpp"

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
  for (const char* part : {"doctor", "inspect", "kernels", "Examples:", "MAINSPRING_DEVICE"})
    EXPECT_SAYS(help.out, part);
}

TEST(Program, a_subcommand_has_a_help_of_its_own) {
  const std::string all = run("--help").out;
  EXPECT_SAYS(all, "\nmainspring SUBCOMMAND --help says more about each.\n");
  std::istringstream lines(all.substr(all.find("Subcommands:")));
  std::string line, name;
  std::getline(lines, line);
  size_t count = 0;
  for (; std::getline(lines, line) && line.starts_with("  "); ++count) {
    std::istringstream(line) >> name;
    const Ran help = run(name + " --help");
    EXPECT_EQ(help.code, 0) << name;
    EXPECT_SAYS(help.out, "Usage: mainspring " + name);
    EXPECT_EQ(help.out.find("SUBCOMMAND"), std::string::npos) << help.out;
  }
  EXPECT_EQ(count, 14u);
}

TEST(Program, a_wrong_use_ends_with_2_and_an_error) {
  for (const char* arguments :
       {"", "nonsense", "doctor --nonsense", "doctor -o xml", "doctor --brief --full", "inspect",
        "--tier nonsense doctor", "kernels --check nonsense", "kernels --docs --migration",
        "kernels --check --docs"}) {
    const Ran ran = run(arguments);
    EXPECT_EQ(ran.code, 2) << arguments;
    EXPECT_EQ(ran.out, "") << arguments;
    EXPECT_TRUE(ran.err.starts_with("mainspring: error: ")) << ran.err;
  }
  EXPECT_SAYS(run("nonsense").err, "no subcommand nonsense");
  const Ran tier = run("doctor", "MAINSPRING_TIER=nonsense");
  EXPECT_EQ(tier.code, 2);
  EXPECT_SAYS(tier.err, "best, portable, subgroups, f16 or matrix");
}

TEST(Program, what_cannot_be_written_is_an_error) {
  const int status = std::system(MS_PROGRAM " kernels > /dev/full 2> /dev/null");
  EXPECT_EQ(WEXITSTATUS(status), 1);
  const int closed = std::system(MS_PROGRAM " kernels >&- 2> /dev/null");
  EXPECT_EQ(WEXITSTATUS(closed), 1);
}

TEST(Doctor, lists_the_devices_and_describes_the_one_that_is_used) {
  const auto adapters = gpu::Device::adapters();
  const Ran text = run("doctor --brief");
  ASSERT_EQ(text.code, 0) << text.out << text.err;
  EXPECT_EQ(text.out.find('\x1b'), std::string::npos) << "colours, though this is no terminal";
  EXPECT_SAYS(text.out, fmt::format("\n  * 0           {}", adapters[0].name));
  EXPECT_SAYS(text.out, "\nNo problem was found.\n");
  std::istringstream lines(text.out);
  for (std::string line; std::getline(lines, line);)
    EXPECT_TRUE(code_points(line) <= 80 || line.find('/') != std::string::npos)  // paths stay whole
        << line;

  const auto report = nlohmann::json::parse(run("doctor --brief -o json").out);
  ASSERT_EQ(report["devices"].size(), adapters.size());
  for (size_t i = 0; i < adapters.size(); ++i) {
    EXPECT_EQ(report["devices"][i]["name"], adapters[i].name);
    EXPECT_EQ(report["devices"][i]["driver"], adapters[i].driver);
    EXPECT_EQ(report["devices"][i]["variant"], to_string(adapters[i].variant));
    EXPECT_EQ(report["devices"][i]["limits"]["max_buffer_bytes"], adapters[i].max_buffer_bytes);
  }
  EXPECT_EQ(report["limits"]["binding"], adapters[0].max_binding_bytes);
  EXPECT_EQ(report["cache"]["pipelines"]["writable"], true);
  EXPECT_EQ(report["problems"].size(), 0u);
  EXPECT_FALSE(report.contains("kernels")) << "--brief checks none";
}

TEST(Doctor, measures_and_checks_every_kernel) {
  const Ran ran = run("doctor -o json");
  ASSERT_EQ(ran.code, 0) << ran.out << ran.err;
  const auto report = nlohmann::json::parse(ran.out);
  EXPECT_GT(report["speed"]["reading"], 0.0);
  EXPECT_GT(report["speed"]["upload"], 0.0);
  EXPECT_EQ(report["kernels"]["checked"]["kernels"], all_kernels().size());
  EXPECT_GE(report["kernels"]["checked"]["cases"], 3 * all_kernels().size());
  EXPECT_EQ(report["kernels"]["wrong"].size(), 0u);
  EXPECT_EQ(ran.err, "");
}

TEST(Doctor, describes_the_device_as_it_is_opened) {
  for (const Ran& ran : {run("--tier portable doctor --brief -o json"),
                         run("doctor --brief -o json --tier portable"),
                         run("doctor --brief -o json", "MAINSPRING_TIER=portable")}) {
    ASSERT_EQ(ran.code, 0) << ran.out << ran.err;
    const auto report = nlohmann::json::parse(ran.out);
    EXPECT_EQ(report["features"]["subgroups"], false);
    EXPECT_EQ(report["limits"]["workgroup"]["storage_buffers"], 8);
    EXPECT_SAYS(report["advice"].dump(), "MAINSPRING_TIER");
  }
  const Ran none = run("doctor", "MAINSPRING_DEVICE='no such device'");
  EXPECT_EQ(none.code, 1);
  EXPECT_SAYS(none.out, "problems\n  - no device \"no such device\"; there are:");
  EXPECT_SAYS(none.out, "\ndevices\n");
}

// The setting that makes of a text the only description of a Vulkan driver.
class Driver {
 public:
  explicit Driver(std::string_view text) { std::ofstream(file_) << text; }
  static std::string description(const std::string& library) {
    return fmt::format(R"({{"file_format_version": "1.0.0",
        "ICD": {{"library_path": "{}", "api_version": "1.3.0"}}}})",
                       library);
  }
  std::string alone() const {
    return fmt::format("VK_DRIVER_FILES={0} VK_ICD_FILENAMES={0}", file_.string());
  }

 private:
  TemporaryFolder folder_;
  std::filesystem::path file_ = folder_.path() / "driver.json";  // another ending is not read
};

TEST(Doctor, without_a_driver_that_works_says_what_to_do) {
  const Driver broken("{"), missing(Driver::description("/no/such.so")),
      none(Driver::description(MS_PROGRAM));  // no library
  for (const std::string& only :
       {std::string("VK_DRIVER_FILES=/dev/null VK_ICD_FILENAMES=/dev/null"), broken.alone(),
        missing.alone(), none.alone()}) {
    const Ran text = run("doctor", only);
    EXPECT_EQ(text.code, 1) << only;
    EXPECT_SAYS(text.out, "problems\n");
    EXPECT_SAYS(text.out, "no WebGPU adapter");
    EXPECT_SAYS(text.out, "mesa-vulkan-drivers");
    const auto report = nlohmann::json::parse(run("doctor -o json", only).out);
    EXPECT_EQ(report["devices"].size(), 0u);
    EXPECT_GE(report["problems"].size(), 1u);
  }
}

TEST(Doctor, survives_a_driver_that_crashes) {
  const Ran ran = run("doctor", Driver(Driver::description(MS_CRASHING_DRIVER)).alone());
  EXPECT_EQ(ran.code, 1);
  EXPECT_SAYS(ran.out, "a graphics driver crashes (Aborted)");
}

TEST(Doctor, a_cache_that_cannot_be_written_is_a_problem) {
  const Ran file = run("doctor --brief", "XDG_CACHE_HOME=/dev/null/x");
  EXPECT_EQ(file.code, 1);
  EXPECT_SAYS(file.out, "/dev/null/x/mainspring/pipelines cannot be written");
  EXPECT_SAYS(file.out, "/dev/null/x/mainspring/models cannot be written");
  const Ran none = run("doctor --brief", "XDG_CACHE_HOME= HOME=");
  EXPECT_EQ(none.code, 1);
  EXPECT_SAYS(none.out, "there is no cache of pipelines");
}

TEST(Doctor, shows_variables_but_no_secrets) {
  for (const char* arguments : {"doctor --brief", "doctor --brief -o json"}) {
    const Ran ran = run(arguments,
                        "HF_TOKEN=hf_abc MAINSPRING_API_KEY=abc123 MAINSPRING_TEMP=0.25 "
                        "HF_ENDPOINT=http://ada:lovelace@127.0.0.1:9 MAINSPRING_TEMPERATURE=1");
    EXPECT_EQ(ran.code, 0) << ran.out;
    for (const char* name : {"HF_TOKEN", "MAINSPRING_API_KEY", "MAINSPRING_TEMP", "0.25"})
      EXPECT_SAYS(ran.out, name);
    for (const char* secret : {"hf_abc", "abc123", "lovelace"})
      EXPECT_EQ(ran.out.find(secret), std::string::npos) << ran.out;
    EXPECT_SAYS(ran.out, "no option reads MAINSPRING_TEMPERATURE");
    EXPECT_EQ(ran.out.find("no option reads MAINSPRING_API_KEY"), std::string::npos);
  }
}

TEST(Doctor, says_which_models_fit_and_which_are_broken) {
  const TemporaryFolder cache;
  const auto models = cache.path() / "mainspring/models";
  std::filesystem::create_directories(models / "u/r");
  const auto doctor = [&] {
    return run("doctor --brief -o json", "XDG_CACHE_HOME=" + cache.path().string());
  };
  std::ofstream(models / "u/r/.lock") << "";  // as pull leaves one
  EXPECT_SAYS(run("doctor --brief", "XDG_CACHE_HOME=" + cache.path().string()).out,
              "/mainspring/models: 1 file, 0 bytes");
  std::filesystem::copy(MS_SOURCE_DIR "/models/tales-31m-q8_0.gguf",
                        models / "u/r/tales-Q8_0.gguf");
  std::ofstream(models / "other.gguf")
      << GgufBuilder().set("general.architecture", "other").bytes();
  Ran ran = doctor();
  EXPECT_EQ(ran.code, 0) << ran.out;
  auto report = nlohmann::json::parse(ran.out);
  ASSERT_EQ(report["models"].size(), 2u);
  EXPECT_EQ(report["models"][0]["name"], "other.gguf");
  EXPECT_EQ(report["models"][1]["name"], "u/r:Q8_0");
  EXPECT_GT(report["models"][1]["device_bytes"], report["models"][1]["bytes"]);
  EXPECT_EQ(report["models"][1]["fits"], true);

  std::ofstream(models / "u/r/tales-Q4_0.gguf") << "GGUF, but not for long";
  ran = doctor();
  EXPECT_EQ(ran.code, 1);
  EXPECT_SAYS(ran.out, "tales-Q4_0.gguf");
  EXPECT_EQ(nlohmann::json::parse(ran.out)["problems"].size(), 1u);
  EXPECT_SAYS(ran.out, "mainspring rm, pull");

  std::filesystem::remove(models / "u/r/tales-Q4_0.gguf");
  for (const char* hidden : {"._other.gguf", "u/r/._tales-Q8_0.gguf"})
    std::ofstream(models / hidden) << "no GGUF";
  std::filesystem::create_symlink("loop", models / "loop");
  EXPECT_EQ(doctor().code, 0);
  std::ofstream(models / "broken.gguf") << "no GGUF";
  ran = doctor();
  EXPECT_SAYS(ran.out, "or put a whole one there");
  EXPECT_EQ(nlohmann::json::parse(ran.out)["problems"].size(), 1u);
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
    EXPECT_SAYS(ran.err, "mainspring: error: bench --kernels takes no -");
  }
  EXPECT_SAYS(run("bench -m no/such --kernels nonsense").err, "there is no kernel \"nonsense\"");
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
