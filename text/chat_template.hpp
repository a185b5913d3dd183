// chat_template.hpp: a conversation as the text that a model was trained on, by the template that
// comes with it.
//
// Jinja as transformers' apply_chat_template runs it. A template that loops, swells or takes too
// long is an Error. A ChatTemplate does not change once made: threads may share it.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "formats/model_file.hpp"
#include "text/tokenizer.hpp"

struct MsTextTemplate;

namespace ms {

class ChatTemplate {
 public:
  using Json = nlohmann::ordered_json;  // the order of keys shows in the text

  struct Options {
    bool add_generation_prompt = true;  // end with the beginning of a reply
    Json tools = nullptr;               // null, or an array of functions in OpenAI's form
    // More for the template to see, like {"enable_thinking": false}.
    Json variables = Json::object();
  };

  // Nothing where the file has no tokenizer.chat_template.
  static std::optional<ChatTemplate> from_file(const ModelFile& file, const Tokenizer& tokenizer);
  // `bos` and `eos`: the names of these tokens, which templates write out.
  static ChatTemplate from_string(std::string_view source, std::string_view bos,
                                  std::string_view eos);

  std::string_view source() const { return source_; }

  // `messages`: an array of {"role", "content", …}. The text is for Tokenizer::encode with
  // parse_special, and with add_special only where it does not begin with bos already.
  std::string render(const Json& messages, const Options& options) const;

 private:
  struct Free {
    void operator()(MsTextTemplate* chat_template) const;
  };
  ChatTemplate() = default;

  std::unique_ptr<MsTextTemplate, Free> rust_;
  std::string source_, bos_, eos_;
};

}  // namespace ms
