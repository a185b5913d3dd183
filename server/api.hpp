// api.hpp: the words of OpenAI's API: a request's JSON, checked, as what the engine takes; errors
// as clients know them.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.hpp"
#include "server/tools.hpp"

namespace ms {

// What is answered instead. `param` names the parameter at fault, `code` the fault; both may be
// empty.
struct ApiError : std::runtime_error {
  ApiError(int status, const std::string& message, std::string param = {}, std::string code = {})
      : std::runtime_error(message),
        status(status),
        param(std::move(param)),
        code(std::move(code)) {}
  std::string json() const;

  int status;
  std::string param, code;
};

// An object, from a body of bounded depth and breadth. Throws ApiError.
Json parse_body(std::string_view text);

struct Completion {
  std::vector<uint32_t> prompt;
  Request request;
  const char* form = "";  // the parameter that the request's constraint comes from
  uint32_t choices = 1;
  std::string echo;  // what each choice's text begins with
  ReplyParser reply = {nullptr, {}, ReplyParser::Thought::never};  // of each choice, a copy
  bool stream = false;
  bool stream_usage = false;
};

struct Embeddings {
  std::vector<std::vector<uint32_t>> texts;  // as tokens
  bool base64 = false;                       // the floats' bytes, in base64, instead of numbers
};

// The bodies of /v1/chat/completions and /v1/completions. Names that are not known are ignored.
// Throws ApiError, also for a prompt that the context cannot hold, and a form (response_format) or
// tools that are no good. `form`: ToolForm::of the model's template.
Completion read_chat(const Json& body, const Engine& engine, const ToolForm* form);
Completion read_completion(const Json& body, const Engine& engine);

// The body of /v1/embeddings, and a vector in its answer.
Embeddings read_embeddings(const Json& body, const Engine& engine);
Json embedding_json(const std::vector<float>& embedding, bool base64);

// Reports of tokens, as chat completions have them, and as completions do; `offset` counts the
// characters before them, and goes on.
Json chat_logprobs(const std::vector<TokenReport>& reports);
Json text_logprobs(const std::vector<TokenReport>& reports, size_t& offset);

// {"content", "add_special", "parse_special"}, {"tokens"} and {"messages", "tools", …} of the
// routes that show a model's own view; what they answer.
Json tokenize(const Json& body, const Engine& engine);
Json detokenize(const Json& body, const Engine& engine);
Json apply_template(const Json& body, const Engine& engine, const ToolForm* form);

// A dump that is UTF-8 whatever is in it.
std::string to_text(const Json& json);

}  // namespace ms
