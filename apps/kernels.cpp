// kernels.cpp: mainspring kernels: the kernels, their checks on this device, their documentation.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <map>

#include "apps/kernel_docs.hpp"
#include "apps/kernel_export.hpp"
#include "apps/kernel_rows.hpp"
#include "apps/model_options.hpp"
#include "kernels/lab.hpp"
#include "kernels/room.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

void list_kernels() {
  for (const gpu::Kernel* kernel : all_kernels()) {
    const Room room =
        read_room(std::ranges::find(wgsl_sources(), kernel->name, &WgslSource::name)->text);
    gpu::Constants defaults;
    for (const gpu::ConstantInfo& info : kernel->constants) defaults.push_back(info.fallback);
    fmt::print("{}: {}\n", styled(Style::title, kernel->name), room.summary);
    if (!defaults.empty()) fmt::print("  {}\n", to_string(defaults));
  }
}

std::vector<const KernelTest*> chosen_tests(const std::vector<std::string>& names) {
  require_kernels(names);
  if (names.empty()) return kernel_tests();
  std::vector<const KernelTest*> chosen;
  for (const std::string& name : names) chosen.push_back(&kernel_test(name));
  return chosen;
}

// Each room on a device of its own: one that is lost fails no other room.
void check_kernels(const GlobalOptions& options, const std::vector<std::string>& names) {
  const auto tests = chosen_tests(names);
  size_t width = 0, failed = 0;
  for (const KernelTest* test : tests) width = std::max(width, std::string_view(test->name).size());
  const gpu::Caps caps = gpu::Device::open(device_options(options))->caps();
  fmt::print("{}, {}, {}{}\n", caps.name, caps.driver, to_string(caps.variant),
             caps.robust ? "" : ", no bounds checks");

  Progress progress("checking");
  for (size_t i = 0; i < tests.size(); ++i) {
    progress(i, tests.size());
    const auto start = std::chrono::steady_clock::now();
    size_t checks = 0;
    std::string error;
    try {
      const auto device = gpu::Device::open(device_options(options));
      checks = run_kernel_test(*tests[i], *device);
    } catch (const std::exception& caught) {
      error = caught.what();
      ++failed;
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    progress.clear();
    if (error.empty())
      fmt::print("{:{}}  {}  {:5} checks  {:6.2f} s\n", tests[i]->name, width,
                 styled(Style::good, "ok"), checks, seconds);
    else
      fmt::print("{:{}}  {}  {:6.2f} s\n{}\n", tests[i]->name, width, styled(Style::bad, "FAILED"),
                 seconds, error);
    std::fflush(stdout);
  }
  if (failed) fail("{} of {} kernels failed on {}", failed, tests.size(), caps.name);
}

void export_all(const GlobalOptions& options, const std::string& folder) {
  Progress progress("exporting");
  export_kernels(folder, device_options(options), std::ref(progress));
}

// Why no work of these models runs a kernel.
std::string_view unused_reason(std::string_view kernel) {
  constexpr std::string_view no_experts = "none of these is a mixture of experts",
                             packed = "weights stay packed: what multiplies by them decodes them";
  static const std::map<std::string_view, std::string_view> reasons = {
      {"attention_streaming", "attention_prefill and attention_decode fit every device so far"},
      {"bf16_to_f16", packed},
      {"bf16_to_f32", packed},
      {"bias_add", "none of these has biases"},
      {"cast_f32_to_f16", "split_qkv stores keys and values as f16 itself"},
      {"dequant_mxfp4", packed},
      {"dequant_q4k", packed},
      {"dequant_q6k", packed},
      {"dequant_q8_0", packed},
      {"fused_matmul_q4", "weights are repacked at load, for matmul_gemv"},
      {"fused_matmul_rmsnorm", "no product is normalised; inputs are, by NORM_INPUT"},
      {"fused_swiglu", "fused_ffn and silu gate with rows that are not biased"},
      {"gelu", "the activation here is SiLU"},
      {"moe_gather", no_experts},
      {"relu", "the activation here is SiLU"},
      {"rope_compute", "split_qkv rotates by tables"},
      {"rope_precomputed", "split_qkv rotates q and k on their way to the cache"},
      {"scale", "none of these scales its embedding"},
      {"scatter_add", no_experts},
      {"softmax", "attention and sampling have theirs inside"},
      {"softmax_log", "tokens are sampled without log-probabilities"},
      {"topk", no_experts},
  };
  const auto found = reasons.find(kernel);
  return found == reasons.end() ? "no graph of these needs it" : found->second;
}

// The kernels of the models' recorded work, and in how many dispatches of each part.
void list_used(const GlobalOptions& options, const std::vector<std::string>& files) {
  std::map<const gpu::Kernel*, std::string> used;
  for (const std::string& file : files) {
    Engine engine(engine_options(options, file, {}, 0));
    const Decoder& model = engine.model();
    const std::pair<const char*, gpu::Work> parts[] = {
        {"load", model.tables()},
        {"prefill", model.prefill(2, 0, Decoder::Want::logits)},
        {"step", model.decode(1)},
        {"greedy", model.sample(1, true)},
        {"sampled", model.sample(1, false)}};
    for (const gpu::Kernel* kernel : all_kernels()) {
      std::string counts;
      for (const auto& [name, work] : parts)
        if (const auto count = std::ranges::count(work.dispatches, kernel, &gpu::Dispatch::kernel))
          counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", name, count);
      if (counts.empty()) continue;
      if (files.size() > 1)
        counts = fmt::format("{}: {}", std::filesystem::path(file).stem().string(), counts);
      used[kernel] += (used[kernel].empty() ? "" : "; ") + counts;
    }
  }
  for (const gpu::Kernel* kernel : all_kernels())
    fmt::print(
        "{:22}{}\n", kernel->name,
        used.contains(kernel) ? used[kernel] : fmt::format("-: {}", unused_reason(kernel->name)));
  fmt::print("\n{} of {} kernels\n", used.size(), all_kernels().size());
}

}  // namespace

void add_kernels(CLI::App& app, const GlobalOptions& options) {
  struct Arguments {
    std::vector<std::string> names, used;
    std::string before, folder;
    bool docs = false, migration = false;
  };
  CLI::App& command = *app.add_subcommand(
      "kernels", "Lists the kernels: what each computes, and its overrides with their defaults.");
  const auto arguments = std::make_shared<Arguments>();
  CLI::Option* const check =
      command
          .add_option("--check", arguments->names,
                      "Run the kernels, or those named, against their references on this device")
          ->expected(0, -1)
          ->type_name("[NAME…]");
  CLI::Option* const used =
      command
          .add_option("--used", arguments->used, "List which of them the work of these models runs")
          ->expected(1, -1)
          ->type_name("MODEL…");
  CLI::Option* const before =
      command
          .add_option("--before", arguments->before,
                      "Run the old library's WGSL files in this folder beside what replaces them; "
                      "exits with 1 if any differs or does not compile")
          ->type_name("DIR");
  CLI::Option* const folder =
      command
          .add_option("--export", arguments->folder,
                      "Write them for other engines: WGSL, a description, cases (tools/make-dist)")
          ->type_name("FOLDER");
  CLI::Option* const regress =
      command
          .add_option("--regress", arguments->names,
                      "Time them, or those named, with overrides and with constants in their place")
          ->expected(0, -1)
          ->type_name("[NAME…]");
  CLI::Option* const exclusive[] = {
      check,
      regress,
      used,
      before,
      folder,
      command.add_flag("--migration", arguments->migration,
                       "Run and print what replaces each entry point of the old library"),
      command.add_flag("--docs", arguments->docs, "Print docs/kernels.md")};
  for (CLI::Option* const one : exclusive)
    for (CLI::Option* const other : exclusive)
      if (one != other) one->excludes(other);
  command.callback([=, &options] {
    std::erase(arguments->names, "");  // CLI11's form of an option without values
    if (check->count())
      check_kernels(options, arguments->names);
    else if (folder->count())
      export_all(options, arguments->folder);
    else if (used->count())
      list_used(options, arguments->used);
    else if (before->count())
      show_before(options, arguments->before);
    else if (regress->count())
      show_regress(options, arguments->names);
    else if (arguments->docs)
      fmt::print("{}", kernel_docs(*gpu::Device::open(device_options(options))));
    else if (arguments->migration)
      show_migration(options);
    else
      list_kernels();
  });
}

}  // namespace ms
