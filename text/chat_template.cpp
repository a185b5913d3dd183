// chat_template.cpp: gathers what a template sees and hands it to the Rust crate as JSON.
#include "text/chat_template.hpp"

#include "base/error.hpp"
#include "text/rust.hpp"

namespace ms {
namespace {

std::string_view name_of(const Tokenizer& tokenizer, std::optional<uint32_t> token) {
  return token ? tokenizer.piece(*token) : std::string_view();
}

}  // namespace

void ChatTemplate::Free::operator()(MsTextTemplate* chat_template) const {
  ms_text_template_free(chat_template);
}

std::optional<ChatTemplate> ChatTemplate::from_file(const ModelFile& file,
                                                    const Tokenizer& tokenizer) {
  const std::optional<std::string_view> source = file.find_string("tokenizer.chat_template");
  if (!source) return std::nullopt;
  try {
    return from_string(*source, name_of(tokenizer, tokenizer.bos()),
                       name_of(tokenizer, tokenizer.eos()));
  } catch (const Error& error) {
    fail("{}: {}", file.path().string(), error.what());
  }
}

ChatTemplate ChatTemplate::from_string(std::string_view source, std::string_view bos,
                                       std::string_view eos) {
  ChatTemplate out;
  rust::Buffer error;
  out.rust_.reset(ms_text_template_new(rust::bytes(source), &error));
  if (!out.rust_) fail("the chat template cannot be read: {}", error.view());
  out.source_ = source;
  out.bos_ = bos;
  out.eos_ = eos;
  return out;
}

std::string ChatTemplate::render(const Json& messages, const Options& options) const {
  require(messages.is_array(), "chat template: messages are {}, not an array",
          messages.type_name());
  require(options.tools.is_null() || options.tools.is_array(),
          "chat template: tools are {}, not an array", options.tools.type_name());
  require(options.variables.is_object(), "chat template: variables are {}, not an object",
          options.variables.type_name());
  Json variables = {
      {"messages", messages}, {"tools", options.tools},
      {"documents", nullptr}, {"add_generation_prompt", options.add_generation_prompt},
      {"bos_token", bos_},    {"eos_token", eos_}};
  variables.update(options.variables);
  const std::string json = variables.dump(-1, ' ', false, Json::error_handler_t::replace);
  rust::Buffer out;
  if (!ms_text_template_render(rust_.get(), rust::bytes(json), &out)) {
    fail("the chat template fails on this conversation: {}", out.view());
  }
  return std::string(out.view());
}

}  // namespace ms
