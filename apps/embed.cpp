// embed.cpp: mainspring embed: texts as vectors.
#include <nlohmann/json.hpp>

#include "apps/model_options.hpp"

namespace ms {

namespace {

constexpr const char* notes =
    R"(Prints for each text a line: the vector of length 1 as a JSON array. Texts are near in meaning where
the dot product of their vectors is near 1. The model is an encoder (BERT), or a decoder whose file says
how its states are pooled, or the last one is taken. A text of more tokens than the max_seq_length in
the folder's sentence_bert_config.json, where there is one, is cut there, as sentence-transformers does.

Examples:
  mainspring embed -m all-MiniLM-L6-v2 "A happy person" "Someone who is glad")";

struct Arguments {
  ModelArguments model;
  std::vector<std::string> texts;
  uint32_t context = 0;
};

void embed(const GlobalOptions& options, const Arguments& a) {
  Engine engine(engine_options(options, a.model, a.context));
  for (const std::string& text : a.texts)
    fmt::print("{}\n", nlohmann::json(engine.embed(engine.encode(text))).dump());
}

}  // namespace

void add_embed(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command = *app.add_subcommand("embed", "Prints what texts mean, as vectors.");
  const auto a = std::make_shared<Arguments>();
  command.footer(notes);
  add_model_options(command, a->model);
  add_context_option(command, a->context);
  command.add_option("text", a->texts, "The texts")->required();
  command.callback([=, &options] { embed(options, *a); });
}

}  // namespace ms
