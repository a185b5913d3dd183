// common.hpp: what the subcommands of the mainspring program share.
//
// A subcommand is one file: add_NAME declares its options and what runs after parsing. It prints
// its result to stdout and throws: ms::Error (exit code 1), std::invalid_argument (a wrong use, 2)
// or ExitCode.
#pragma once
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/device.hpp"

namespace CLI {
class App;
}

namespace ms {

// Options that stand before or behind any subcommand. They outlive the parsing.
struct GlobalOptions {
  std::string device;  // as gpu::DeviceOptions has it
  gpu::Tier tier = gpu::Tier::best;
  bool fast = false;
};

// Thrown to end the program with this exit code and without a word.
struct ExitCode {
  int code;
};

void add_bench(CLI::App& app, const GlobalOptions& options);
void add_chat(CLI::App& app, const GlobalOptions& options);
void add_doctor(CLI::App& app, const GlobalOptions& options);
void add_embed(CLI::App& app, const GlobalOptions& options);
void add_inspect(CLI::App& app, const GlobalOptions& options);
void add_kernels(CLI::App& app, const GlobalOptions& options);
void add_logits(CLI::App& app, const GlobalOptions& options);
void add_perplexity(CLI::App& app, const GlobalOptions& options);
void add_models(CLI::App& app, const GlobalOptions& options);  // pull, list, rm
void add_run(CLI::App& app, const GlobalOptions& options);
void add_serve(CLI::App& app, const GlobalOptions& options);
void add_tune(CLI::App& app, const GlobalOptions& options);

// -o, --output text|json of a subcommand.
void add_output_option(CLI::App& command, std::string& format);

// The device that the options ask for, with every kernel and the pipeline cache of this user.
gpu::DeviceOptions device_options(const GlobalOptions& options);
// ${XDG_CACHE_HOME:-~/.cache}/mainspring/NAME; empty where neither is known: then nothing is kept.
std::filesystem::path cache_folder(std::string_view name);

// As the system calls the processor; empty where it does not say.
std::string cpu_name();

// Throws std::invalid_argument unless each name is a kernel's.
void require_kernels(const std::vector<std::string>& names);

// Text for stdout, emphasised if that is a terminal and NO_COLOR is not set.
enum class Style { title, good, bad };
std::string styled(Style style, std::string_view text);

// A whole file. Throws Error.
std::string read_text(const std::string& path);

// "1,234,567", "1.2 GiB"
std::string grouped(uint64_t n);
std::string binary_bytes(uint64_t bytes);

// Prints rows in columns that line up, two blanks between them.
void print_table(const std::vector<std::vector<std::string>>& rows);

// A line on stderr that says how far a task is that takes long. Prints only on a terminal.
class Progress {
 public:
  explicit Progress(std::string task);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();  // takes the line away

  void operator()(size_t done, size_t all);
  void clear();  // before other output

 private:
  std::string task_;
  bool terminal_, shown_ = false;
  size_t last_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace ms
