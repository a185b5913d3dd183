// devices.cpp: mainspring devices: the adapters of this machine, with features, limits and driver.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "apps/common.hpp"

namespace ms {

namespace {

nlohmann::ordered_json to_json(const gpu::Caps& caps) {
  return {{"name", caps.name},
          {"driver", caps.driver},
          {"backend", caps.backend},
          {"cpu", caps.cpu},
          {"variant", to_string(caps.variant)},
          {"features",
           {{"subgroups", caps.variant.subgroups},
            {"f16", caps.variant.f16},
            {"matrix", caps.variant.matrix},
            {"timestamps", caps.timestamps}}},
          {"limits",
           {{"min_subgroup_size", caps.min_subgroup_size},
            {"max_subgroup_size", caps.max_subgroup_size},
            {"max_storage_buffers", caps.max_storage_buffers},
            {"max_workgroup_bytes", caps.max_workgroup_bytes},
            {"max_invocations", caps.max_invocations},
            {"max_workgroups", caps.max_workgroups},
            {"max_binding_bytes", caps.max_binding_bytes},
            {"max_buffer_bytes", caps.max_buffer_bytes}}}};
}

std::string features(const gpu::Caps& caps) {
  std::vector<std::string> names;
  if (caps.variant.subgroups)
    names.push_back(
        fmt::format("subgroups of {} to {} lanes", caps.min_subgroup_size, caps.max_subgroup_size));
  if (caps.variant.f16) names.push_back("f16");
  if (caps.variant.matrix) names.push_back("subgroup matrices");
  if (caps.timestamps) names.push_back("timestamps");
  return names.empty() ? "none beyond WebGPU's core" : fmt::format("{}", fmt::join(names, ", "));
}

void print(const gpu::Caps& caps, const std::string& title) {
  fmt::print("{}\n", styled(Style::title, title));
  print_table(
      {{"  driver",
        fmt::format("{}, {}{}", caps.driver, caps.backend, caps.cpu ? ", on the CPU" : "")},
       {"  variant", to_string(caps.variant)},
       {"  features", features(caps)},
       {"  memory", fmt::format("{} a buffer, {} a binding", binary_bytes(caps.max_buffer_bytes),
                                binary_bytes(caps.max_binding_bytes))},
       {"  workgroup",
        fmt::format("{} invocations, {}, {} storage buffers", caps.max_invocations,
                    binary_bytes(caps.max_workgroup_bytes), caps.max_storage_buffers)},
       {"  grid", fmt::format("{} workgroups a dimension", caps.max_workgroups)}});
}

// All adapters; with --device or --tier, the one that they choose, as it is opened.
void devices(const GlobalOptions& options, bool json) {
  const bool chosen = !options.device.empty() || options.tier != gpu::Tier::best;
  std::vector<gpu::Caps> found = chosen ? std::vector<gpu::Caps>() : gpu::Device::adapters();
  if (found.empty())
    found.push_back(
        gpu::Device::open(device_options(options))->caps());  // throws when there is none

  if (json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const gpu::Caps& caps : found) list.push_back(to_json(caps));
    fmt::print("{}\n", list.dump(2));
    return;
  }
  for (size_t i = 0; i < found.size(); ++i)
    print(found[i], chosen ? found[i].name : fmt::format("{}: {}", i, found[i].name));
}

}  // namespace

void add_devices(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command = *app.add_subcommand(
      "devices", "Lists the adapters that models can run on, the default first.");
  const auto format = std::make_shared<std::string>("text");
  add_output_option(command, *format);
  command.callback([&options, format] { devices(options, *format == "json"); });
}

}  // namespace ms
