// logits.cpp: mainspring logits: a model's exact numbers, for anyone who compares engines.
#include <bit>
#include <charconv>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/model_options.hpp"

namespace ms {

namespace {

constexpr const char* notes =
    R"(-ub N evaluates N tokens at once; -ub 1 goes through the decode step, one by one.

Examples:
  mainspring logits -m model.gguf --tokens 1,403,407 -o logits.npy
  mainspring logits -m model.gguf --tokens @ids.txt --rows 0,99 -ub 1 -ctk f32 -ctv f32 -o logits.npy
  mainspring logits -m model.gguf --tokens 1,403,407 --greedy 48)";

struct Arguments {
  ModelArguments model;
  std::string tokens, rows, out;
  uint32_t greedy = 0;
};

// Numbers with anything but digits between them that is a comma, a bracket or white space.
std::vector<uint32_t> parse_numbers(std::string_view text, std::string_view what) {
  constexpr std::string_view between = ", \t\r\n[]";
  std::vector<uint32_t> numbers;
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(between), text.size()));
    if (text.empty()) return numbers;
    const std::string_view word = text.substr(0, text.find_first_of(between));
    uint32_t n = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), n);
    require(error == std::errc{} && end == word.data() + word.size(), "{}: \"{}\" is no number",
            what, word.substr(0, 40));
    numbers.push_back(n);
    text.remove_prefix(word.size());
  }
}

std::vector<uint32_t> read_tokens(const std::string& argument) {
  if (!argument.starts_with('@')) return parse_numbers(argument, "--tokens");
  const std::string path = argument.substr(1);
  return parse_numbers(read_text(path), path);
}

// NumPy's format, version 1.0: a header of Python literals, padded so that the data starts at a
// multiple of 64.
void write_npy(const std::string& path, std::span<const float> values, size_t rows) {
  static_assert(std::endian::native == std::endian::little);
  std::string header =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows,
                  rows ? values.size() / rows : 0);
  constexpr size_t before = 10;  // the magic, the version, the header's length
  header.append(63 - (before + header.size()) % 64, ' ') += '\n';
  const uint16_t length = uint16_t(header.size());
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << "\x93NUMPY\x01" << '\0';
  out.write(reinterpret_cast<const char*>(&length), sizeof(length));
  out << header;
  out.write(reinterpret_cast<const char*>(values.data()), std::streamsize(values.size_bytes()));
  out.close();
  if (!out) fail("cannot write {}: {}", path, std::strerror(errno));
}

void logits(const GlobalOptions& options, const Arguments& a) {
  require(!a.out.empty() || a.greedy, "nothing is asked for: give -o FILE or --greedy N");
  const std::vector<uint32_t> tokens = read_tokens(a.tokens);
  require(!tokens.empty(), "--tokens: there are none");
  std::vector<uint32_t> rows = parse_numbers(a.rows, "--rows");
  if (rows.empty()) {
    rows.resize(tokens.size());
    std::iota(rows.begin(), rows.end(), 0u);
  }
  const std::filesystem::path model = model_path(a.model.model, a.model.hub_model);
  require_decoder(model);
  Engine engine = with_context_of("--tokens with --greedy", [&] {
    return Engine(engine_options(options, model, a.model, uint32_t(tokens.size()) + a.greedy));
  });
  if (!a.out.empty())
    write_npy(a.out, engine.logits(tokens, rows, engine.model().options().batch), rows.size());
  if (a.greedy) {
    Request request;
    request.sampling.temperature = 0;
    request.max_tokens = a.greedy;
    request.ignore_eos = true;
    fmt::print("{}\n", nlohmann::json(engine.generate(tokens, request).tokens).dump());
  }
}

}  // namespace

void add_logits(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command =
      *app.add_subcommand("logits", "Writes the logits of a sequence of tokens as a NumPy array.");
  const auto a = std::make_shared<Arguments>();
  command.footer(notes);
  add_model_options(command, a->model);
  add_option(command, "--tokens", a->tokens, "Token ids, 1,2,3 or @FILE")->required();
  add_option(command, "--rows", a->rows, "Positions whose logits are wanted, 0,7; else all");
  add_number(command, "--greedy", a->greedy, "Print so many likeliest tokens that follow, as JSON",
             0, 1 << 24);
  command.add_option("-o,--output", a->out, "Write [rows, vocab] f32 to this .npy")
      ->type_name("FILE");
  command.callback([=, &options] { logits(options, *a); });
}

}  // namespace ms
