// generation.hpp: what run and chat share: the options of a generation, Ctrl-C, output, rates.
#pragma once
#include <csignal>
#include <string>
#include <string_view>

#include "apps/model_options.hpp"

namespace ms {

struct GenerationArguments {
  ModelArguments model;
  uint32_t context = 0;
  std::string system;
  int64_t seed = -1;
  bool verbose = false;
  Request request;  // but the seed

  // A random seed for -1.
  uint32_t draw_seed() const;
};

void add_generation_options(CLI::App& command, GenerationArguments& arguments);

// Set by Ctrl-C from catch_interrupts on. With `once` a second one ends the program.
extern volatile std::sig_atomic_t interrupted;
void catch_interrupts(bool once);

// Text on its way to stdout: a line that is begun is ended, whatever happens.
class Output {
 public:
  ~Output();
  bool write(std::string_view text);
  // Throws where something could not be written: ExitCode if the reader has gone.
  void check() const;

 private:
  bool at_line_start_ = true;
  int error_ = 0;
};

// Several lines, each "what: figures".
std::string rates(const Generation& generation);

}  // namespace ms
