// kernel_export.cpp: texts as compose() makes them, descriptions from the rooms, cases from their
// tests.
#include "apps/kernel_export.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/lab.hpp"
#include "kernels/migration.hpp"
#include "kernels/room.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

using Json = nlohmann::ordered_json;

void write_file(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream stream(path, std::ios::binary);
  stream.write(text.data(), std::streamsize(text.size()));
  if (!stream.flush()) fail("cannot write {}", path.string());
}

Json value_of(const gpu::Constant& constant) {
  if (constant.kind == 'b') return constant.value != 0;
  if (constant.kind == 'f') return constant.value;
  return int64_t(constant.value);
}

Json values_of(const gpu::Constants& constants) {
  Json result = Json::object();
  for (const gpu::Constant& constant : constants)
    result[std::string(constant.name)] = value_of(constant);
  return result;
}

Room room_of(const gpu::Kernel& kernel) {
  return read_room(std::ranges::find(wgsl_sources(), kernel.name, &WgslSource::name)->text);
}

// The description.

Json values_of(const gpu::Constant& constant, const std::vector<double>& values) {
  Json result = Json::array();
  for (const double value : values) {
    gpu::Constant one = constant;
    one.value = value;
    result.push_back(value_of(one));
  }
  return result;
}

// Of each constant the listed values that go together with some of the others, without subgroup
// matrices, which browsers do not have.
std::vector<std::vector<double>> values_in_browsers(const gpu::Kernel& kernel) {
  std::vector<std::vector<double>> result(kernel.constants.size());
  const auto all = gpu::every(kernel);
  const auto has_matrices = [](const gpu::Constant& c) { return c.name == "MATRIX" && c.value; };
  for (size_t i = 0; i < result.size(); ++i)
    for (const double value : kernel.constants[i].values)
      if (std::ranges::any_of(all, [&](const gpu::Constants& c) {
            return c[i].value == value && std::ranges::none_of(c, has_matrices);
          }))
        result[i].push_back(value);
  return result;
}

Json describe_overrides(const gpu::Kernel& kernel, const Room& room) {
  Json result = Json::array();
  const auto tested = values_in_browsers(kernel);
  for (size_t i = 0; i < tested.size(); ++i) {
    const gpu::ConstantInfo& info = kernel.constants[i];
    const auto declared = std::ranges::find(room.overrides, info.fallback.name, &Declared::name);
    result.push_back(
        {{"name", info.fallback.name},
         {"type", type_name(info.fallback)},
         {"default", value_of(info.fallback)},
         {"values", values_of(info.fallback, info.sizing ? info.legal_values() : tested[i])},
         {"tested", values_of(info.fallback, tested[i])},
         {"needs_subgroups", needs_subgroups(info)},
         {"sizing", info.sizing},
         {"prelude", info.fallback.prelude},
         {"comment", declared != room.overrides.end() ? declared->comment : ""}});
  }
  return result;
}

Json describe(Tolerance tolerance) { return {{"abs", tolerance.abs}, {"rel", tolerance.rel}}; }

Json describe_refusals(const gpu::Kernel& kernel) {
  Json result = Json::array();
  for (const Refusal& refusal : refusals(kernel)) {
    Json where = Json::object();
    for (const auto& [name, values] : refusal.where)
      for (const gpu::Constant& value : values) where[std::string(name)].push_back(value_of(value));
    result.push_back({{"where", where}, {"reason", refusal.reason}});
  }
  return result;
}

Json describe(const gpu::Kernel& kernel, const Room& room, const Tolerances& tolerances) {
  Json bindings = Json::array(), params = Json::array(), replaces = Json::array();
  for (const DeclaredBinding& binding : room.bindings)
    bindings.push_back({{"binding", binding.index},
                        {"name", binding.name},
                        {"access", binding.space == "uniform"         ? "uniform"
                                   : binding.space == "storage, read" ? "read-only-storage"
                                                                      : "storage"},
                        {"type", binding.type},
                        {"comment", binding.comment}});
  for (size_t i = 0; i < room.params.size(); ++i)  // every field has four bytes
    params.push_back({{"name", room.params[i].name},
                      {"type", room.params[i].type},
                      {"offset", 4 * i},
                      {"comment", room.params[i].comment}});
  for (const Migrated& row : migration()) {
    if (row.kernel != kernel.name) continue;
    Json overrides = Json::object(), by_params = Json::object();
    for (const auto& [name, value] : row.overrides) overrides[std::string(name)] = value;
    for (const auto& [name, value] : row.params) by_params[std::string(name)] = value;
    replaces.push_back({{"file", row.file},
                        {"entry", row.entry},
                        {"overrides", overrides},
                        {"params", by_params},
                        {"decision", row.decision}});
  }
  return {{"summary", room.summary},
          {"header", room.header},
          {"grid", header_rule(room, "Grid")},
          {"limits", header_rule(room, "Limits")},
          {"subgroups", uses_subgroups(kernel)},
          {"tolerance",
           {{"usual", describe(tolerances.usual)}, {"widest", describe(tolerances.widest)}}},
          {"entries", room.entries},
          {"bindings", bindings},
          {"params", params},
          {"overrides", describe_overrides(kernel, room)},
          {"refused", describe_refusals(kernel)},
          {"replaces", replaces}};
}

// TypeScript's view of a kernel: its names.
std::string types_of(const gpu::Kernel& kernel, const Room& room) {
  std::string text =
      fmt::format("  /** {} */\n  {}: {{\n    overrides: {{", room.summary, kernel.name);
  for (const gpu::ConstantInfo& info : kernel.constants)
    text += fmt::format(" {}?: {};", info.fallback.name,
                        info.fallback.kind == 'b'
                            ? "boolean"
                            : fmt::format("{}", fmt::join(info.legal_values(), " | ")));
  text += " };\n    params: {";
  for (const Declared& field : room.params) text += fmt::format(" {}: number;", field.name);
  text += " };\n    bindings:";
  for (const DeclaredBinding& binding : room.bindings)
    if (binding.index > 0) text += fmt::format(" | \"{}\"", binding.name);
  return text + ";\n  };\n";
}

// The cases.

constexpr uint64_t largest_bytes = 256 << 10;  // of a case's memory
constexpr uint64_t enough_bytes = 8 << 10;     // more is not better
constexpr size_t most_alike = 4;               // of a combination
constexpr size_t most_cases = 20;              // of a kernel, for one device

struct CaseBinding {
  gpu::View view;  // false: absent
  std::string before, after;
};
struct Case {
  gpu::Dispatch dispatch;
  Tolerance tolerance;
  std::vector<CaseBinding> bindings;
  uint64_t bytes = 0;
};

// Whether a case of so many bytes shows more than one of so many.
bool better(uint64_t bytes, uint64_t than) {
  if (bytes <= enough_bytes && than <= enough_bytes) return bytes > than;
  return bytes < than;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The cases of one device: of each kernel's combination, and of each dispatch of a Work, a few that
// differ in their params, the best ones first.
class Cases {
 public:
  using Key = std::tuple<std::string_view, gpu::Constants, size_t>;  // kernel; place in its Work

  void add(gpu::Device& device, const gpu::Work& work, Tolerance tolerance) {
    Memory memory;
    uint64_t bytes = 0;
    for (const gpu::Dispatch& dispatch : work.dispatches)
      for (const gpu::View& view : dispatch.bindings)
        if (view && memory.emplace(key(view), Bytes()).second)
          bytes += view.buffer ? view.buffer->bytes : work.scratch.at(view.scratch - 1);
    if (bytes > largest_bytes || !wanted(work, bytes)) return;
    for (auto& [at, held] : memory)
      held = at.first ? device.read(*at.first, 0, at.first->bytes)
                      : Bytes((work.scratch.at(at.second - 1) + 255) / 256 * 256);
    for (size_t i = 0; i < work.dispatches.size(); ++i)
      keep(i, {.dispatch = work.dispatches[i],
               .tolerance = tolerance,
               .bindings = run_twin(work.dispatches[i], memory),
               .bytes = bytes});
  }

  const std::map<Key, std::vector<Case>>& best() const { return best_; }

 private:
  using Bytes = std::vector<std::byte>;
  using Memory = std::map<std::pair<gpu::Buffer*, uint32_t>, Bytes>;  // of buffers and scratches

  static std::pair<gpu::Buffer*, uint32_t> key(const gpu::View& view) {
    return {view.buffer, view.scratch};
  }

  bool wanted(const gpu::Work& work, uint64_t bytes) const {
    for (size_t i = 0; i < work.dispatches.size(); ++i) {
      const gpu::Dispatch& dispatch = work.dispatches[i];
      const auto found = best_.find({dispatch.kernel->name, dispatch.constants, i});
      if (found == best_.end()) return true;
      const auto& held = found->second;
      const bool has_it = std::ranges::any_of(
          held, [&](const Case& one) { return one.dispatch.params == dispatch.params; });
      if (!has_it && (held.size() < most_alike || better(bytes, held.back().bytes))) return true;
    }
    return false;
  }

  void keep(size_t place, Case one) {
    auto& held = best_[{one.dispatch.kernel->name, one.dispatch.constants, place}];
    for (const Case& other : held)
      if (other.dispatch.params == one.dispatch.params) return;
    const auto worse = std::ranges::find_if(
        held, [&](const Case& other) { return better(one.bytes, other.bytes); });
    held.insert(worse, std::move(one));
    if (held.size() > most_alike) held.pop_back();
  }

  static std::vector<CaseBinding> run_twin(const gpu::Dispatch& dispatch, Memory& memory) {
    // A binding reaches to a multiple of 16 bytes, so that arrays of vec4 hold the last element.
    const auto bound = [&](const gpu::View& view) {
      const uint64_t bytes = std::max<uint64_t>((view.bytes() + 15) / 16 * 16, 16);
      return std::span(memory.at(key(view))).subspan(view.offset, bytes);
    };
    std::vector<CaseBinding> result;
    std::vector<std::span<std::byte>> spans;
    for (const gpu::View& view : dispatch.bindings) {
      result.push_back({view, view ? text_of(bound(view)) : "", ""});
      spans.push_back(view ? bound(view).first((view.bytes() + 3) / 4 * 4)
                           : std::span<std::byte>());
    }
    dispatch.kernel->twin(gpu::HostDispatch(dispatch, std::move(spans)));
    for (size_t i = 0; i < result.size(); ++i)
      if (result[i].view && dispatch.kernel->bindings[i] == gpu::out)
        result[i].after = text_of(bound(result[i].view));
    return result;
  }

  std::map<Key, std::vector<Case>> best_;
};

// Some of a kernel's cases: those first that show the most pairs of values not yet seen together,
// then in their order.
std::vector<const Case*> choose(std::vector<const Case*> all) {
  using Pair = std::array<std::pair<size_t, double>, 2>;
  std::set<Pair> seen;
  const auto fresh_pairs = [&](const Case* one) {
    std::vector<Pair> fresh;
    const gpu::Constants& constants = one->dispatch.constants;
    for (size_t i = 0; i < constants.size(); ++i)
      for (size_t j = 0; j <= i; ++j)  // a constant alone, too
        if (const Pair pair = {{{i, constants[i].value}, {j, constants[j].value}}};
            !seen.contains(pair))
          fresh.push_back(pair);
    return fresh;
  };
  std::vector<const Case*> chosen;
  while (chosen.size() < most_cases && !all.empty()) {
    const auto next =
        std::ranges::max_element(all, {}, [&](const Case* one) { return fresh_pairs(one).size(); });
    for (const Pair& pair : fresh_pairs(*next)) seen.insert(pair);
    chosen.push_back(*next);
    all.erase(next);
  }
  return chosen;
}

// A kernel's file of cases, and the data that they share.
class CaseFile {
 public:
  explicit CaseFile(const Room& room) : room_(room) {}

  void add(const Case& one, const gpu::Caps& caps) {
    const gpu::Dispatch& d = one.dispatch;
    Json bindings = Json::object(), params = Json::object();
    for (size_t i = 0; i < one.bindings.size(); ++i) {
      const auto& [view, before, after] = one.bindings[i];
      if (!view) continue;
      Json& binding = bindings[room_.bindings.at(i + 1).name];
      binding = {{"type", to_string(view.type)},
                 {"shape", std::span(view.shape.dims).first(view.shape.rank)},
                 {"before", place(before)}};
      if (!after.empty()) binding["after"] = place(after);
    }
    for (size_t i = 0; i < room_.params.size(); ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, d.params.data() + 4 * i, 4);
      const auto& [name, type, _, comment] = room_.params[i];
      const float number = std::bit_cast<float>(bits);
      if (type != "f32")
        params[name] = type == "i32" ? int64_t(int32_t(bits)) : int64_t(bits);
      else if (std::isfinite(number))
        params[name] = number;
      else  // which JSON has no numbers for, and JavaScript's Number() reads
        params[name] = std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
    }
    cases_.push_back({{"variant", to_string(caps.variant)},
                      {"subgroup_size", caps.min_subgroup_size},
                      {"entry", d.entry},
                      {"overrides", values_of(d.constants)},
                      {"params", params},
                      {"grid", d.grid},
                      {"tolerance", describe(one.tolerance)},
                      {"bindings", bindings}});
  }

  void write(const std::filesystem::path& folder, std::string_view name) const {
    write_file(folder / fmt::format("{}.json", name), cases_.dump());
    write_file(folder / fmt::format("{}.bin", name), data_);
  }

 private:
  // [where, how many bytes] of the data file.
  Json place(const std::string& bytes) {
    const auto [found, fresh] = places_.try_emplace(bytes, data_.size());
    if (fresh) data_ += bytes;
    return {found->second, bytes.size()};
  }

  const Room& room_;
  Json cases_ = Json::array();
  std::string data_;
  std::map<std::string, size_t> places_;
};

// The devices that cases are made for: with WebGPU's default limits, so that every device can run
// them. What is right for subgroups of 4 is so for larger ones, but some kernels want 8.
std::vector<gpu::Caps> targets(const gpu::Caps& caps) {
  gpu::Caps portable;
  portable.name = caps.name;
  portable.cpu = caps.cpu;
  portable.cpu_threads = caps.cpu_threads;
  std::vector<gpu::Caps> result = {portable};
  for (const uint32_t size : {4, 8}) {
    result.push_back(portable);
    result.back().variant.subgroups = true;
    result.back().min_subgroup_size = result.back().max_subgroup_size = size;
  }
  return result;
}

}  // namespace

void export_kernels(const std::filesystem::path& folder, const gpu::DeviceOptions& options,
                    const std::function<void(size_t, size_t)>& progress) {
  const auto device = gpu::Device::open(options);
  const std::vector<gpu::Caps> all_caps = targets(device->caps());
  const auto tests = kernel_tests();
  std::vector<Cases> cases(all_caps.size());
  for (size_t i = 0; i < all_caps.size(); ++i)
    for (size_t t = 0; t < tests.size(); ++t) {
      progress(i * tests.size() + t, all_caps.size() * tests.size());
      Lab lab(*device, all_caps[i], [&](const gpu::Work& work, Tolerance tolerance) {
        cases[i].add(*device, work, tolerance);
      });
      tests[t]->run(lab);
    }

  Json kernels = Json::object();
  std::string types = "// Made by mainspring kernels --export.\nexport interface KernelTypes {\n";
  for (const gpu::Kernel* kernel : all_kernels()) {
    const Room room = room_of(*kernel);
    gpu::Constants defaults;
    for (const gpu::ConstantInfo& info : kernel->constants) defaults.push_back(info.fallback);
    for (const gpu::Variant& variant : {gpu::Variant(), gpu::Variant{.subgroups = true}})
      write_file(folder / "wgsl" / to_string(variant) / fmt::format("{}.wgsl", kernel->name),
                 compose(wgsl_sources(), kernel->name, variant, defaults));

    CaseFile file(room);
    size_t count = 0;
    for (size_t i = 0; i < all_caps.size(); ++i) {
      std::vector<const Case*> of_kernel;
      for (size_t rank = 0; rank < most_alike; ++rank)
        for (const auto& [key, alike] : cases[i].best()) {
          // A larger subgroup shows nothing new where a smaller one will do.
          const bool shown = i > 1 && cases[i - 1].best().contains(key);
          if (std::get<0>(key) == kernel->name && rank < alike.size() && !shown)
            of_kernel.push_back(&alike[rank]);
        }
      for (const Case* one : choose(std::move(of_kernel))) file.add(*one, all_caps[i]), ++count;
    }
    file.write(folder / "cases", kernel->name);
    Json& entry = kernels[std::string(kernel->name)] =
        describe(*kernel, room, tolerances(kernel_test(kernel->name), *device));
    entry["cases"] = count;
    types += types_of(*kernel, room);
  }
  write_file(folder / "kernels.json", kernels.dump(1));
  write_file(folder / "kernels.d.ts", types + "}\n");
}

}  // namespace ms
