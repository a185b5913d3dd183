// doctor.cpp: mainspring doctor: what there is to run models on, how fast it is, whether it
// computes right, and what to do where something is wrong. For people, and for reports of bugs.
#include <fcntl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <thread>

#include "apps/bandwidth.hpp"
#include "apps/common.hpp"
#include "apps/models.hpp"
#include "formats/model_file.hpp"
#include "kernels/lab.hpp"
#include "mainspring.hpp"
#include "model/config.hpp"
#include "text/utf8.hpp"

extern char** environ;

namespace ms {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr const char* notes =
    R"(Says what the machine, its devices and their drivers are, measures how fast the device reads and is
written, lists caches and models, and runs some cases of each kernel beside its reference. At the end it
lists what is wrong, and what to do about it.

Examples:
  mainspring doctor                         for a report of a bug, too
  mainspring doctor --brief                 what there is, in a second
  mainspring --device 1 doctor              another device than the first
  mainspring doctor --full                  every case of every kernel: minutes
Exit codes: 0 nothing is wrong, 1 something is, which the last lines tell.)";

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Words in lines of at most 80 columns, those after the first indented.
std::string wrapped(std::string_view text, size_t indent) {
  std::string result;
  size_t column = indent;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t width = code_points(word);
    if (column > indent && column + 1 + width > 80) {
      result += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      result += ' ', ++column;
    }
    result += word;
    column += width;
  }
  return result;
}

struct Entry {
  std::string label, text;
  Json value = {};  // for machines; null: the text
};

// What is found out, printed as it comes, or at the end as JSON.
class Report {
 public:
  explicit Report(bool json) : json_(json) {}

  void add(const std::string& section, const std::vector<Entry>& entries) {
    if (!json_ && !all_.contains(section)) fmt::print("{}\n", styled(Style::title, section));
    for (const Entry& entry : entries) {
      std::string key = entry.label;
      std::ranges::replace(key, ' ', '_');
      all_[section][key] = entry.value.is_null() ? Json(entry.text) : entry.value;
      if (!json_) fmt::print("  {:12}  {}\n", entry.label, wrapped(entry.text, 16));
    }
    std::fflush(stdout);
  }
  // For machines alone.
  void add_value(const std::string& section, Json value) { all_[section] = std::move(value); }

  // What is wrong; what is right but might be better. Each says what to do.
  void problem(const std::string& text) { problems_.push_back(text); }
  void advice(const std::string& text) { advice_.push_back(text); }

  // Runs what may throw: then that is a problem.
  void attempt(const std::function<void()>& function) {
    try {
      function();
    } catch (const std::exception& error) {
      problem(error.what());
    }
  }

  void finish() {
    if (json_) {
      all_["advice"] = advice_;
      all_["problems"] = problems_;
      fmt::print("{}\n", all_.dump(2, ' ', false, Json::error_handler_t::replace));
    } else {
      list("advice", advice_);
      list("problems", problems_);
      if (problems_.empty()) fmt::print("{}\n", styled(Style::good, "No problem was found."));
    }
    if (!problems_.empty()) {
      std::fflush(stdout);
      throw ExitCode{1};
    }
  }

 private:
  static void list(const char* title, const std::vector<std::string>& texts) {
    if (!texts.empty()) fmt::print("{}\n", styled(Style::title, title));
    for (const std::string& text : texts) fmt::print("  - {}\n", wrapped(text, 4));
  }

  const bool json_;
  Json all_ = Json::object();
  std::vector<std::string> problems_, advice_;
};

// The number that a file of the kernel's begins with, or that a word of it stands before.
std::optional<uint64_t> number_in(const char* path, std::string_view behind = {}) {
  std::ifstream in(path);
  for (std::string word; !behind.empty() && in >> word && word != behind;) {
  }
  uint64_t number = 0;
  return in >> number ? std::optional(number) : std::nullopt;
}

struct HostMemory {
  uint64_t all = 0, free = 0;  // bytes; 0: not known
};
HostMemory host_memory() {
  HostMemory memory;
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) memory.all = uint64_t(pages) * uint64_t(page);
  memory.free = 1024 * number_in("/proc/meminfo", "MemAvailable:").value_or(memory.all / 1024);
  if (const auto most = number_in("/sys/fs/cgroup/memory.max"); most && *most < memory.all) {
    memory.all = *most;
    const uint64_t used = number_in("/sys/fs/cgroup/memory.current").value_or(0);
    memory.free = std::min(memory.free, *most - std::min(*most, used));
  }
  return memory;
}

// The graphics cards that the system sees, whether there is a driver or not: "NVIDIA (10de:2330)".
std::vector<std::string> graphics_cards() {
  std::vector<std::string> cards;
  std::error_code error;
  for (fs::directory_iterator at("/sys/bus/pci/devices", error), end; !error && at != end;
       at.increment(error)) {
    const auto read = [&](const char* name) {
      std::string text;
      std::ifstream(at->path() / name) >> text;  // "0x030000"
      return text.size() > 2 ? text.substr(2) : "";
    };
    const std::string kind = read("class"), vendor = read("vendor");
    const char* const name = vendor == "10de"   ? "NVIDIA"
                             : vendor == "1002" ? "AMD"
                             : vendor == "8086" ? "Intel"
                                                : nullptr;
    if (name && (kind.starts_with("03") || kind.starts_with("12")))
      cards.push_back(fmt::format("{} ({}:{})", name, vendor, read("device")));
  }
  std::ranges::sort(cards);
  return cards;
}

void add_program(Report& report) {
  utsname system{};
  uname(&system);
#ifdef __OPTIMIZE__
  constexpr const char* build = "optimised";
#else
  constexpr const char* build = "not optimised";
  report.advice(
      "this program was built without optimisation: tools/build release makes a faster one");
#endif
  report.add(
      "program",
      {{"version", fmt::format("mainspring {}, commit {}", version(), MS_COMMIT)},
       {"build", fmt::format("{}, by compiler {}", build, __VERSION__)},
       {"system", fmt::format("{} {}, {}", system.sysname, system.release, system.machine)}});
}

void add_machine(Report& report, const std::vector<std::string>& cards) {
  const uint32_t threads = std::max(1u, std::thread::hardware_concurrency());
  const std::string cpu = cpu_name();
  const HostMemory memory = host_memory();
  report.add("machine",
             {{"processor", fmt::format("{}, {} thread{}", cpu.empty() ? "of unknown name" : cpu,
                                        threads, threads > 1 ? "s" : "")},
              {"memory",
               fmt::format("{}, {} free", binary_bytes(memory.all), binary_bytes(memory.free)),
               {{"bytes", memory.all}, {"free_bytes", memory.free}}},
              {"graphics",
               cards.empty() ? "no card of NVIDIA, AMD or Intel on the PCI bus"
                             : fmt::format("{}", fmt::join(cards, ", ")),
               Json(cards)}});
}

bool is_secret(std::string_view name, std::string_view value) {
  for (const char* part : {"TOKEN", "KEY", "SECRET", "PASSWORD"})
    if (name.find(part) != std::string_view::npos) return true;
  return value.find('@') != std::string_view::npos;  // an address with a password
}

// The variables that some option of the program reads.
void collect_variables(const CLI::App& app, std::set<std::string, std::less<>>& names) {
  for (const CLI::Option* option : app.get_options()) names.insert(option->get_envname());
  for (const CLI::App* command : app.get_subcommands({})) collect_variables(*command, names);
}

void add_environment(Report& report, const CLI::App& app) {
  std::set<std::string, std::less<>> known = {"MAINSPRING_FULL"};
  collect_variables(app, known);
  std::vector<Entry> entries;
  Json values = Json::object();
  for (char** variable = environ; *variable; ++variable) {
    const std::string_view text = *variable;
    const std::string_view name = text.substr(0, text.find('='));
    const std::string_view value = text.substr(std::min(text.size(), name.size() + 1));
    const bool ours = name.starts_with("MAINSPRING_");
    if (!ours && !name.starts_with("HF_") && !name.starts_with("VK_") && name != "XDG_CACHE_HOME")
      continue;
    const std::string shown = is_secret(name, value) ? "set" : fmt::format("{:?}", value);
    entries.push_back({"", fmt::format("{} = {}", name, shown)});
    values[std::string(name)] = is_secret(name, value) ? Json(true) : Json(value);
    if (ours && !known.contains(name))
      report.advice(fmt::format("no option reads {}: --help names the variable of each", name));
  }
  if (!entries.empty()) report.add("environment", entries);
  report.add_value("environment", std::move(values));
}

Json to_json(const gpu::Caps& caps) {
  return {{"number", caps.number},
          {"name", caps.name},
          {"type", caps.type},
          {"driver", caps.driver},
          {"backend", caps.backend},
          {"memory_bytes", caps.memory_bytes},
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

// What ends a process that opens the device: drivers may crash or hang. Empty where nothing does.
std::string driver_fault(const gpu::DeviceOptions& options) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return "";
  if (child == 0) {
    constexpr unsigned patience = 60;  // seconds
    alarm(patience);
    const int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO), dup2(null, STDERR_FILENO);
    try {
      gpu::Device::open(options);
    } catch (const std::exception&) {  // the parent will meet it
    }
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFSIGNALED(status)) return "";
  return WTERMSIG(status) == SIGALRM ? "does not answer"
                                     : fmt::format("crashes ({})", strsignal(WTERMSIG(status)));
}

constexpr const char* driver_to_install =
    "install its Vulkan driver (Debian: mesa-vulkan-drivers for AMD and Intel; nvidia-driver and "
    "nvidia-vulkan-icd for NVIDIA, and in a container NVIDIA_DRIVER_CAPABILITIES=all)";

// The device that the options choose; null where there is none.
std::unique_ptr<gpu::Device> add_devices(Report& report, const gpu::DeviceOptions& options,
                                         const std::vector<std::string>& cards) {
  if (const std::string fault = driver_fault(options); !fault.empty()) {
    report.problem(fmt::format(
        "a graphics driver {} when it is opened: install it anew or another version, or choose "
        "another by VK_DRIVER_FILES=FILE.json (they lie in /usr/share/vulkan/icd.d)",
        fault));
    return nullptr;
  }
  const std::vector<gpu::Caps> adapters = gpu::Device::adapters();
  std::unique_ptr<gpu::Device> device;
  report.attempt([&] { device = gpu::Device::open(options); });

  std::vector<Entry> entries;
  Json list = Json::array();
  for (const gpu::Caps& caps : adapters) {
    const bool used = device && device->caps().number == caps.number;
    entries.push_back(
        {fmt::format("{} {}", used ? "*" : " ", caps.number),
         fmt::format("{}: {}, {}, {}", caps.name, caps.type, caps.backend, caps.driver)});
    list.push_back(to_json(caps));
  }
  if (adapters.size() > 1)
    entries.push_back({"",
                       "* is used; --device or MAINSPRING_DEVICE takes another, by its number or "
                       "a part of its name"});
  if (!adapters.empty()) report.add("devices", entries);
  report.add_value("devices", std::move(list));
  const bool software = std::ranges::all_of(adapters, &gpu::Caps::cpu);
  if (software && !cards.empty())
    report.problem(
        fmt::format("{} has no Vulkan driver here: {}", cards.front(), driver_to_install));
  return device;
}

void add_features(Report& report, const gpu::Caps& caps) {
  const gpu::Variant& v = caps.variant;
  const std::string sizes =
      caps.min_subgroup_size == caps.max_subgroup_size
          ? fmt::format("{}", caps.max_subgroup_size)
          : fmt::format("{} to {}", caps.min_subgroup_size, caps.max_subgroup_size);
  const auto yes = [](bool there) { return there ? "yes" : "no"; };
  report.add(
      "features",
      {{"subgroups",
        (v.subgroups ? fmt::format("yes, of {} lanes", sizes) : "no") +
            ": lanes add and share numbers without going through memory",
        v.subgroups},
       {"dot4I8Packed",
        fmt::format("{}: integers multiplied by fours, for --activations int16",
                    caps.int8_dot ? "an instruction" : "emulated"),
        caps.int8_dot},
       {"f16",
        fmt::format("{} (shader-f16): for subgroup matrices alone; f16 is read and written by bits",
                    yes(v.f16)),
        v.f16},
       {"matrices",
        (caps.matrices.empty()
             ? "no subgroup matrices"
             : fmt::format("subgroup matrices of {}", fmt::join(caps.matrices, "; "))) +
            fmt::format("; {}", v.matrix ? "prompts go through them"
                                         : "prompts go faster with f16 * f16 + f32, 16x16x16"),
        Json(caps.matrices)},
       {"timestamps",
        fmt::format("{}: bench --kernels times kernels by them", yes(caps.timestamps)),
        caps.timestamps},
       {"checks",
        fmt::format("{} bounds checks in shaders (--fast: without)",
                    caps.robust ? "with" : "without"),
        caps.robust}});
}

void add_limits(Report& report, const gpu::Caps& caps) {
  report.add(
      "limits",
      {{"buffer",
        fmt::format("{}: the largest tensor that the device holds",
                    binary_bytes(caps.max_buffer_bytes)),
        caps.max_buffer_bytes},
       {"binding",
        fmt::format("{}: what a kernel sees of a tensor at once. A larger weight is read in parts; "
                    "a layer's keys, and its values, must fit",
                    binary_bytes(caps.max_binding_bytes)),
        caps.max_binding_bytes},
       {"workgroup",
        fmt::format("{} invocations, {} of shared memory, {} storage buffers", caps.max_invocations,
                    binary_bytes(caps.max_workgroup_bytes), caps.max_storage_buffers),
        {{"invocations", caps.max_invocations},
         {"bytes", caps.max_workgroup_bytes},
         {"storage_buffers", caps.max_storage_buffers}}},
       {"memory",
        caps.memory_bytes ? fmt::format("{}{}", binary_bytes(caps.memory_bytes),
                                        caps.type == "discrete" ? "" : ", shared with the host")
                          : "the driver does not tell",
        caps.memory_bytes}});
}

// Bytes a second to a buffer of the device, as weights go.
double upload_rate(gpu::Device& device) {
  const std::vector<std::byte> piece(8 << 20, std::byte(1));
  const auto buffer = device.buffer(piece.size(), "upload");
  double best = 0;
  for (int round = 0; round < 4; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < 8; ++i) device.write(*buffer, 0, piece);
    device.finish();
    best = std::max(best, 8 * double(piece.size()) / seconds_since(start));
  }
  return best;
}

void add_speed(Report& report, gpu::Device& device) {
  const Bandwidth bandwidth = measure_bandwidth(device);
  const double reading = bandwidth.gb_per_s, upload = upload_rate(device) / 1e9;
  report.add(
      "speed",
      {{"reading",
        fmt::format("{:.1f} GB/s ({}): at best {:.{}f} tokens a second of a model of 1 GB", reading,
                    bandwidth.how, reading, reading < 10 ? 1 : 0),
        reading},
       {"upload",
        fmt::format("{:.1f} GB/s: {:.2f} s for each GB of a model to load", upload, 1 / upload),
        upload}});
}

// Whether a file can be made in a folder, which is made, too. Empty, or why not.
std::string why_not_writable(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  const fs::path probe = folder / fmt::format(".doctor.{}", getpid());
  const int file = open(probe.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) return std::strerror(errno);
  const bool written = write(file, "x", 1) == 1;
  const std::string why = written ? "" : std::strerror(errno);
  close(file);
  fs::remove(probe, error);
  return why;
}

void add_cache(Report& report, const std::string& what, const std::string& cost) {
  const fs::path folder = cache_folder(what);
  if (folder.empty()) {
    report.add("cache", {{what, "none: neither XDG_CACHE_HOME nor HOME is an absolute path"}});
    report.problem(
        fmt::format("there is no cache of {}, {}: set HOME or XDG_CACHE_HOME", what, cost));
    return;
  }
  uint64_t files = 0, bytes = 0;
  std::error_code error;
  const std::string why = why_not_writable(folder);
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error))
    if (std::error_code ignored; at->is_regular_file(ignored))
      ++files, bytes += at->file_size(ignored);
  report.add("cache", {{what,
                        fmt::format("{}: {} file{}, {}, {}", folder.string(), grouped(files),
                                    files == 1 ? "" : "s", binary_bytes(bytes),
                                    why.empty() ? "writable" : "not writable"),
                        {{"folder", folder.string()},
                         {"files", files},
                         {"bytes", bytes},
                         {"writable", why.empty()}}}});
  if (!why.empty())
    report.problem(
        fmt::format("{} cannot be written ({}), {}: give this user the right to, or set "
                    "XDG_CACHE_HOME to another folder",
                    folder.string(), why, cost));
}

// What a model takes on a device beside activations: its tensors, and keys and values of a context.
uint64_t bytes_on_device(const ModelFile& file) {
  uint64_t bytes = 0;
  for (const TensorInfo& tensor : file.tensors()) bytes += tensor.data.size();
  const std::string architecture(file.find_string("general.architecture").value_or(""));
  if (architecture == "bert") return bytes;
  const Config config = config_of(file);
  return bytes + 4ull * config.layers * config.kv_size() * std::min(config.context, 4096u);
}

void add_models(Report& report, const gpu::Caps* caps) {
  const uint64_t room = !caps                              ? 0
                        : caps->cpu || !caps->memory_bytes ? host_memory().free
                                                           : caps->memory_bytes / 10 * 9;
  Json list = Json::array();
  for (const LocalModel& model : local_models()) {
    Json json{{"name", model.name}, {"path", model.path.string()}};
    std::string says = "its download was broken off: mainspring pull goes on";
    if (!model.path.empty()) {
      std::optional<ModelFile> file;
      try {
        file = open_model(model.path);
      } catch (const std::exception& error) {
        says = "cannot be read";
        report.problem(fmt::format("{}; remove it{}", error.what(),
                                   model.of_hub ? " and fetch it again (mainspring rm, pull)"
                                                : ", or put a whole one there"));
      }
      try {
        if (file) {
          json["bytes"] = file->mapped_bytes();
          says = binary_bytes(file->mapped_bytes());
          const uint64_t needed = bytes_on_device(*file);
          json["device_bytes"] = needed;
          if (room) json["fits"] = needed <= room;
          if (room)
            says += fmt::format(", {} on the device: {}", binary_bytes(needed),
                                needed <= room ? "fits" : "does not fit");
        }
      } catch (const std::exception& error) {
        says += fmt::format("; not supported: {}", error.what());
      }
    }
    report.add("models", {{"", fmt::format("{}: {}", model.name, says)}});
    list.push_back(std::move(json));
  }
  if (list.empty())
    report.add("models", {{"", "none was fetched yet: mainspring pull does, or ./run"}});
  report.add_value("models", std::move(list));
}

void check_kernels(Report& report, std::unique_ptr<gpu::Device> device,
                   const gpu::DeviceOptions& options, bool full) {
  const auto tests = kernel_tests();
  const auto start = Clock::now();
  size_t checks = 0;
  std::vector<std::string> wrong;
  {
    Progress progress("checking kernels");
    for (size_t i = 0; i < tests.size(); ++i) {
      progress(i, tests.size());
      try {
        if (!device) device = gpu::Device::open(options);
        checks += full ? run_kernel_test(*tests[i], *device) : run_some_cases(*tests[i], *device);
      } catch (const std::exception& error) {
        device.reset();  // one that is lost fails no other kernel
        wrong.push_back(tests[i]->name);
        const std::string_view text = error.what();
        report.problem(
            fmt::format("kernel {0} is not right on this device; a newer driver, or an older one, "
                        "may help: {1} "
                        "(mainspring kernels --check {0} says more)",
                        tests[i]->name, text.substr(0, text.find('\n'))));
      }
    }
  }
  report.add(
      "kernels",
      {{"checked",
        fmt::format("{} of {} kernels agree with their references, {} cases{}, {:.1f} s",
                    tests.size() - wrong.size(), tests.size(), grouped(checks),
                    full ? "" : " (--full: all)", seconds_since(start)),
        {{"kernels", tests.size()}, {"cases", checks}, {"full", full}}},
       {"wrong", wrong.empty() ? "none" : fmt::format("{}", fmt::join(wrong, ", ")), Json(wrong)}});
}

void add_advice(Report& report, const GlobalOptions& options, const gpu::Caps& caps) {
  if (caps.cpu)
    report.advice(
        fmt::format("no GPU is used: {} runs the kernels on the processor, so expect a hundredth "
                    "of a GPU's speed "
                    "and take small models. If there is a GPU, {}",
                    caps.name, driver_to_install));
  if (options.tier != gpu::Tier::best)
    report.advice(
        "--tier or MAINSPRING_TIER leaves features of the device unused: without it models "
        "run as fast as they can");
  else if (!caps.variant.subgroups)
    report.advice(
        "the device has no subgroups, so that sums go through shared memory, which is slower: "
        "a newer driver may have them");
  if (caps.robust && !caps.cpu)
    report.advice(
        "bounds checks are on: --fast leaves them out, which makes prompts up to three "
        "times as fast");
}

void doctor(const CLI::App& app, const GlobalOptions& options, bool brief, bool full, bool json) {
  Report report(json);
  const std::vector<std::string> cards = graphics_cards();
  add_program(report);
  add_machine(report, cards);
  add_environment(report, app);
  const gpu::DeviceOptions device_of = device_options(options);
  auto device = add_devices(report, device_of, cards);
  if (device) {
    add_features(report, device->caps());
    add_limits(report, device->caps());
  }
  add_cache(report, "pipelines", "so that every start compiles the kernels again");
  add_cache(report, "models", "so that no model can be fetched");
  report.attempt([&] { add_models(report, device ? &device->caps() : nullptr); });
  if (device) {
    add_advice(report, options, device->caps());
    if (!brief) {
      report.attempt([&] { add_speed(report, *device); });
      check_kernels(report, std::move(device), device_of, full);
    }
  }
  report.finish();
}

}  // namespace

void add_doctor(CLI::App& app, const GlobalOptions& options) {
  struct Arguments {
    bool brief = false, full = false;
    std::string format = "text";
  };
  CLI::App& command = *app.add_subcommand(
      "doctor", "Says what models can run on here, and what is wrong; for reports of bugs.");
  command.footer(notes);
  const auto arguments = std::make_shared<Arguments>();
  CLI::Option* const brief =
      command.add_flag("--brief", arguments->brief, "Measure no speed, and check no kernel");
  command
      .add_flag("--full", arguments->full, "Check every case of every kernel, as `kernels --check`")
      ->excludes(brief);
  add_output_option(command, arguments->format);
  command.callback([=, &app, &options] {
    doctor(app, options, arguments->brief, arguments->full, arguments->format == "json");
  });
}

}  // namespace ms
