// api.cpp: every parameter is checked: one that is not understood is refused, not guessed.
#include "server/api.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <random>

#include "base/error.hpp"
#include "engine/guidance.hpp"
#include "text/utf8.hpp"

namespace ms {

namespace {

constexpr int most_depth = 64;
constexpr size_t most_keys = 512;  // of an object: they are looked for one by one
constexpr size_t most_messages = 4096, most_tools = 128;
constexpr size_t most_stops = 16, most_stop_bytes = 1024;
constexpr int64_t most_choices = 8, most_logprobs = 20;
constexpr size_t most_biases = 1024, most_texts = 2048;

template <class... Args>
[[noreturn]] void refuse(const std::string& param, fmt::format_string<Args...> format,
                         Args&&... args) {
  throw ApiError(400, fmt::format(format, std::forward<Args>(args)...), param);
}

// Null counts as absent.
const Json* find(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

double number(const Json& body, const char* name, double least, double most, double otherwise) {
  const Json* const value = find(body, name);
  if (!value) return otherwise;
  if (!value->is_number()) refuse(name, "{} is {}, want a number", name, value->type_name());
  const double result = value->get<double>();
  if (!(result >= least && result <= most))
    refuse(name, "{} is {}, want {} to {}", name, result, least, most);
  return result;
}

int64_t integer(const Json& body, const char* name, int64_t least, int64_t most,
                int64_t otherwise) {
  const Json* const value = find(body, name);
  if (!value) return otherwise;
  if (!value->is_number_integer())
    refuse(name, "{} is {}, want a whole number", name,
           value->is_number() ? value->dump() : value->type_name());
  const bool huge = value->is_number_unsigned() && value->get<uint64_t>() > uint64_t(INT64_MAX);
  const int64_t result = huge ? INT64_MAX : value->get<int64_t>();
  if (result < least || result > most)
    refuse(name, "{} is {}, want {} to {}", name, value->dump(), least, most);
  return result;
}

bool flag(const Json& body, const char* name, bool otherwise) {
  const Json* const value = find(body, name);
  if (!value) return otherwise;
  if (!value->is_boolean()) refuse(name, "{} is {}, want true or false", name, value->type_name());
  return value->get<bool>();
}

std::string text(const Json& object, const char* name, const std::string& param) {
  const Json* const value = find(object, name);
  if (!value) refuse(param, "{} is missing", param);
  if (!value->is_string()) refuse(param, "{} is {}, want a string", param, value->type_name());
  return value->get<std::string>();
}

std::vector<std::string> stops(const Json& body) {
  const Json* const value = find(body, "stop");
  if (!value) return {};
  const Json list = value->is_array() ? *value : Json::array({*value});
  if (list.size() > most_stops)
    refuse("stop", "stop has {} strings; at most {} are taken", list.size(), most_stops);
  std::vector<std::string> result;
  for (const Json& stop : list) {
    if (!stop.is_string()) refuse("stop", "stop is no string or list of strings");
    result.push_back(stop.get<std::string>());
    if (result.back().empty() || result.back().size() > most_stop_bytes)
      refuse("stop", "a stop string has {} bytes, want 1 to {}", result.back().size(),
             most_stop_bytes);
  }
  return result;
}

// What would change the answer and is not there must not be ignored.
void refuse_unsupported(const Json& body) {
  const auto not_yet = [](const char* name) { refuse(name, "{} is not supported yet", name); };
  for (const char* name : {"suffix", "functions", "function_call", "audio"})
    if (find(body, name)) not_yet(name);
  if (flag(body, "echo", false)) not_yet("echo");
}

// What a template, a tokenizer or a grammar refuses, it refuses for what is in the request.
auto of_request(const char* param, auto&& make) {
  try {
    return make();
  } catch (const Error& error) {
    throw ApiError(400, error.what(), param);
  }
}

std::map<uint32_t, float> biases(const Json& body, uint32_t vocabulary) {
  const Json* const value = find(body, "logit_bias");
  if (!value) return {};
  if (!value->is_object() || value->size() > most_biases)
    refuse("logit_bias", "logit_bias is no object of at most {} tokens", most_biases);
  std::map<uint32_t, float> result;
  for (const auto& [key, bias] : value->items()) {
    uint32_t token = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc{} || end != key.data() + key.size() || token >= vocabulary)
      refuse("logit_bias", "logit_bias has {:?} for a token, want numbers below {}", key,
             vocabulary);
    if (!bias.is_number() || std::abs(bias.get<double>()) > 100)
      refuse("logit_bias", "logit_bias of {} is {}, want -100 to 100", key, to_text(bias));
    result[token] = bias.get<float>();
  }
  return result;
}

// OpenAI's forms, and two more: {"type": "regex", "regex": …}, {"type": "grammar", "grammar": …}.
std::optional<Constraint> form(const Json& body, const Engine& engine) {
  constexpr const char* name = "response_format";
  const Json* const value = find(body, name);
  if (!value) return {};
  if (!value->is_object()) refuse(name, "{} is {}, want an object", name, value->type_name());
  const std::string type = text(*value, "type", name);
  Constraint constraint;
  using enum Constraint::Kind;
  if (type == "text") return {};
  if (type == "json_schema") {
    const Json* const named = find(*value, "json_schema");
    const Json* const schema = named && named->is_object() ? find(*named, "schema") : nullptr;
    if (!schema) refuse(name, "{} has no json_schema.schema", name);
    constraint = {json_schema, to_text(*schema)};
  } else if (type == "regex") {
    constraint = {regex, text(*value, "regex", name)};
  } else if (type == "grammar") {
    constraint = {lark, text(*value, "grammar", name)};
  } else if (type != "json_object") {
    refuse(name,
           "response_format.type is {:?}, want text, json_object, json_schema, regex or grammar",
           type);
  }
  // Compiled here, too, so that what is wrong with it is said at once.
  try {
    grammar_of(engine.tokenizer(), constraint);
  } catch (const Error& error) {
    refuse(name, "{}: {}", name, error.what());
  }
  return constraint;
}

void need_text(const Engine& engine) {
  if (engine.is_encoder())
    refuse("model", "the model is an encoder, which writes no text: /v1/embeddings takes it");
}

Completion read_common(const Json& body, const Engine& engine, int64_t max_tokens) {
  need_text(engine);
  refuse_unsupported(body);
  if (find(body, "model")) text(body, "model", "model");
  Completion result;
  Sampling& s = result.request.sampling;
  s.temperature = float(number(body, "temperature", 0, 2, 1));
  s.top_p = float(number(body, "top_p", 0, 1, 1));
  if (s.top_p == 0)
    s.top_k = 1, s.top_p = 1;  // of the least share: the likeliest token
  else
    s.top_k = uint32_t(integer(body, "top_k", 0, UINT32_MAX, 0));
  s.min_p = float(number(body, "min_p", 0, 1, 0));
  s.presence_penalty = float(number(body, "presence_penalty", -2, 2, 0));
  s.frequency_penalty = float(number(body, "frequency_penalty", -2, 2, 0));
  s.repeat_penalty = float(number(body, "repeat_penalty", 0.01, 100, 1));
  const int64_t seed = integer(body, "seed", INT64_MIN, INT64_MAX, -1);
  s.seed =
      find(body, "seed") ? uint32_t(seed) ^ uint32_t(uint64_t(seed) >> 32) : std::random_device()();
  result.request.max_tokens = integer(body, "max_tokens", 1, INT64_MAX, max_tokens);
  result.request.max_tokens =
      integer(body, "max_completion_tokens", 1, INT64_MAX, result.request.max_tokens);
  // Beyond any context: sums with it must not overflow.
  result.request.max_tokens = std::min<int64_t>(result.request.max_tokens, UINT32_MAX);
  result.request.stop = stops(body);
  result.request.logit_bias = biases(body, engine.config().vocab);
  result.request.constraint = form(body, engine);
  result.choices = uint32_t(integer(body, "n", 1, most_choices, 1));
  if (integer(body, "best_of", 1, INT64_MAX, result.choices) != result.choices)
    refuse("best_of", "best_of is not supported yet, but as many as n");
  result.stream = flag(body, "stream", false);
  if (const Json* const options = find(body, "stream_options")) {
    if (!options->is_object())
      refuse("stream_options", "stream_options is {}, want an object", options->type_name());
    if (!result.stream) refuse("stream_options", "stream_options is for \"stream\": true");
    result.stream_usage = flag(*options, "include_usage", false);
  }
  return result;
}

void check_prompt(const std::vector<uint32_t>& prompt, const Engine& engine, const char* param) {
  if (prompt.empty()) refuse(param, "{} has no tokens: there is nothing to go on", param);
  if (prompt.size() > engine.context())
    throw ApiError(400,
                   fmt::format("{} has {} tokens, the context holds {}: shorten it, or serve the "
                               "model with a larger context (-c)",
                               param, prompt.size(), engine.context()),
                   param, "context_length_exceeded");
}

// Text, or the texts of its parts.
std::string content_of(const Json& message, const std::string& param) {
  const Json& content = message["content"];
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array())
    refuse(param, "{} is {}, want a string or a list of parts", param, content.type_name());
  std::string result;
  for (const Json& part : content) {
    if (!part.is_object()) refuse(param, "{} has a part that is no object", param);
    const std::string type = text(part, "type", param + ".type");
    if (type != "text")
      refuse(param, "{} has a part of type {:?}; text alone is taken", param, type);
    if (&part != &content.front()) result += '\n';
    result += text(part, "text", param + ".text");
  }
  return result;
}

// As templates want them: arguments as values, where the API has them as text.
Json tool_calls_of(const Json& calls, const std::string& param) {
  if (!calls.is_array()) refuse(param, "{} is {}, want a list", param, calls.type_name());
  Json result = calls;
  for (Json& call : result) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object())
      refuse(param, "{} has a call without a \"function\"", param);
    text(call["function"], "name", param + ".function.name");
    Json& arguments = call["function"]["arguments"];
    if (!arguments.is_string()) continue;
    try {
      Json value = parse_body(arguments.get_ref<const std::string&>());
      arguments = std::move(value);
    } catch (const ApiError&) {  // a model's slip: the template gets the text as it is
    }
  }
  return result;
}

Json messages_of(const Json& body) {
  const Json* const messages = find(body, "messages");
  if (!messages) refuse("messages", "messages is missing");
  if (!messages->is_array())
    refuse("messages", "messages is {}, want a list", messages->type_name());
  if (messages->empty() || messages->size() > most_messages)
    refuse("messages", "there are {} messages, want 1 to {}", messages->size(), most_messages);
  Json result = Json::array();
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& from = (*messages)[i];
    const std::string param = fmt::format("messages[{}]", i);
    if (!from.is_object()) refuse(param, "{} is {}, want an object", param, from.type_name());
    std::string role = text(from, "role", param + ".role");
    if (role == "developer") role = "system";  // its new name, which templates do not know
    if (role != "system" && role != "user" && role != "assistant" && role != "tool")
      refuse(param + ".role", "{}.role is {:?}, want system, developer, user, assistant or tool",
             param, role);
    Json to = {{"role", role}};
    const Json* const calls = role == "assistant" ? find(from, "tool_calls") : nullptr;
    if (find(from, "content"))
      to["content"] = content_of(from, param + ".content");
    else if (calls)
      to["content"] = "";
    else
      refuse(param + ".content", "{}.content is missing", param);
    if (calls) to["tool_calls"] = tool_calls_of(*calls, param + ".tool_calls");
    for (const char* name : {"name", "tool_call_id", "reasoning_content"})
      if (find(from, name)) to[name] = text(from, name, fmt::format("{}.{}", param, name));
    result.push_back(std::move(to));
  }
  return result;
}

Json tools_of(const Json& body) {
  const Json* const tools = find(body, "tools");
  const Json* const choice = find(body, "tool_choice");
  if (choice && *choice != "auto" && *choice != "none")
    refuse("tool_choice", "tool_choice is not supported yet but as \"auto\" or \"none\"");
  if (!tools) return nullptr;
  if (!tools->is_array() || tools->size() > most_tools)
    refuse("tools", "tools is no list of at most {}", most_tools);
  for (const Json& tool : *tools) {
    if (!tool.is_object() || text(tool, "type", "tools.type") != "function")
      refuse("tools", "a tool is no object of type \"function\"");
    const Json* const function = find(tool, "function");
    if (!function || !function->is_object()) refuse("tools", "a tool has no \"function\"");
    text(*function, "name", "tools.function.name");
  }
  return tools->empty() || (choice && *choice == "none") ? Json(nullptr) : *tools;
}

void need_template(const Engine& engine) {
  if (!engine.chat_template())
    refuse("messages",
           "the model has no chat template, so it knows no messages; /v1/completions continues a "
           "text");
}

std::vector<uint32_t> tokens_of(const Json& list, const char* param, uint32_t vocabulary) {
  std::vector<uint32_t> tokens;
  tokens.reserve(list.size());
  for (const Json& token : list) {
    if (!token.is_number_unsigned() || token.get<uint64_t>() >= vocabulary)
      refuse(param, "{} has {} for a token, want numbers below {}", param,
             token.is_number() ? token.dump() : token.type_name(), vocabulary);
    tokens.push_back(token.get<uint32_t>());
  }
  return tokens;
}

}  // namespace

std::string to_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string ApiError::json() const {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  const char* const type = status >= 500   ? "server_error"
                           : status == 401 ? "authentication_error"
                                           : "invalid_request_error";
  return to_text({{"error",
                   {{"message", what()},
                    {"type", type},
                    {"param", or_null(param)},
                    {"code", or_null(code)}}}});
}

Json parse_body(std::string_view text) {
  std::vector<size_t> keys;
  const auto watch = [&](int depth, Json::parse_event_t event, Json&) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= most_depth) refuse({}, "the JSON is nested deeper than {}", most_depth);
      keys.push_back(0);
    } else if (event == Event::object_end || event == Event::array_end) {
      keys.pop_back();
    } else if (event == Event::key && ++keys.back() > most_keys) {
      refuse({}, "an object has more than {} keys", most_keys);
    }
    return true;
  };
  Json json;
  try {
    json = Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::parse_error& error) {
    refuse({}, "the body is no JSON in UTF-8: byte {} is wrong", error.byte);
  } catch (const Json::exception&) {
    refuse({}, "the body has a number that is out of range");
  }
  if (!json.is_object()) refuse({}, "the body is {}, want an object", json.type_name());
  return json;
}

Completion read_chat(const Json& body, const Engine& engine) {
  need_text(engine);
  need_template(engine);
  Completion result = read_common(body, engine, -1);
  if (flag(body, "logprobs", false))
    result.request.logprobs = int32_t(integer(body, "top_logprobs", 0, most_logprobs, 0));
  else if (find(body, "top_logprobs"))
    refuse("top_logprobs", "top_logprobs is for \"logprobs\": true");
  const Json messages = messages_of(body);
  const ChatTemplate::Options options{.tools = tools_of(body)};
  result.prompt = of_request("messages", [&] { return engine.encode_chat(messages, options); });
  check_prompt(result.prompt, engine, "messages");
  return result;
}

Completion read_completion(const Json& body, const Engine& engine) {
  Completion result = read_common(body, engine, 16);
  result.request.logprobs = int32_t(integer(body, "logprobs", 0, most_logprobs, -1));
  const Json* const prompt = find(body, "prompt");
  if (!prompt) refuse("prompt", "prompt is missing");
  if (prompt->is_string()) {
    result.prompt =
        of_request("prompt", [&] { return engine.encode(prompt->get_ref<const std::string&>()); });
    if (result.prompt.empty() && engine.tokenizer().bos())
      result.prompt = {*engine.tokenizer().bos()};
  } else if (prompt->is_array()) {
    if (!prompt->empty() && !prompt->front().is_number())
      refuse("prompt", "prompt is a list of {}s, want a string or a list of tokens",
             prompt->front().type_name());
    result.prompt = tokens_of(*prompt, "prompt", engine.config().vocab);
  } else {
    refuse("prompt", "prompt is {}, want a string or a list of tokens", prompt->type_name());
  }
  check_prompt(result.prompt, engine, "prompt");
  return result;
}

Embeddings read_embeddings(const Json& body, const Engine& engine) {
  if (find(body, "model")) text(body, "model", "model");
  Embeddings result;
  const Json* const input = find(body, "input");
  if (!input) refuse("input", "input is missing");
  // One text or several, each a string or a list of tokens.
  const bool several = input->is_array() && (input->empty() || !input->front().is_number());
  const Json texts = several ? *input : Json::array({*input});
  if (texts.empty() || texts.size() > most_texts)
    refuse("input", "input has {} texts, want 1 to {}", texts.size(), most_texts);
  for (const Json& one : texts) {
    if (one.is_string())
      result.texts.push_back(
          of_request("input", [&] { return engine.encode(one.get_ref<const std::string&>()); }));
    else if (one.is_array())
      result.texts.push_back(tokens_of(one, "input", engine.config().vocab));
    else
      refuse("input", "input has {} for a text, want a string or a list of tokens",
             one.type_name());
    check_prompt(result.texts.back(), engine, "input");
  }
  const std::string format =
      find(body, "encoding_format") ? text(body, "encoding_format", "encoding_format") : "float";
  if (format != "float" && format != "base64")
    refuse("encoding_format", "encoding_format is {:?}, want float or base64", format);
  result.base64 = format == "base64";
  const int64_t dim = engine.config().dim;
  integer(body, "dimensions", dim, dim, dim);
  return result;
}

Json embedding_json(const std::vector<float>& embedding, bool base64) {
  if (!base64) return embedding;
  static_assert(std::endian::native == std::endian::little);
  constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto bytes = std::as_bytes(std::span(embedding));
  std::string result;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t three = 0;
    for (size_t j = 0; j < 3; ++j) three = three << 8 | (j < count ? uint32_t(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) result += j <= count ? digits[three >> (18 - 6 * j) & 63] : '=';
  }
  return result;
}

Json chat_logprobs(const std::vector<TokenReport>& reports) {
  const auto entry = [](const TokenLogprob& t) {
    Json bytes = Json::array();
    for (const char byte : t.bytes) bytes.push_back(uint8_t(byte));
    return Json{{"token", t.bytes}, {"logprob", t.logprob}, {"bytes", std::move(bytes)}};
  };
  Json content = Json::array();
  for (const TokenReport& report : reports) {
    Json one = entry(report.drawn);
    one["top_logprobs"] = Json::array();
    for (const TokenLogprob& t : report.likeliest) one["top_logprobs"].push_back(entry(t));
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json text_logprobs(const std::vector<TokenReport>& reports, size_t& offset) {
  Json tokens = Json::array(), logprobs = tokens, tops = tokens, offsets = tokens;
  for (const TokenReport& report : reports) {
    tokens.push_back(report.drawn.bytes);
    logprobs.push_back(report.drawn.logprob);
    Json top = Json::object();
    for (const TokenLogprob& t : report.likeliest) top[t.bytes] = t.logprob;
    tops.push_back(std::move(top));
    offsets.push_back(offset);
    offset += code_points(report.drawn.bytes);
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json tokenize(const Json& body, const Engine& engine) {
  const std::string content = text(body, "content", "content");
  const Tokenizer::EncodeOptions options{.add_special = flag(body, "add_special", false),
                                         .parse_special = flag(body, "parse_special", false)};
  return {{"tokens",
           of_request("content", [&] { return engine.tokenizer().encode(content, options); })}};
}

Json detokenize(const Json& body, const Engine& engine) {
  const Json* const tokens = find(body, "tokens");
  if (!tokens || !tokens->is_array()) refuse("tokens", "tokens is no list of tokens");
  return of_request("tokens", [&]() -> Json {
    const Tokenizer& tokenizer = engine.tokenizer();
    const auto list = tokens_of(*tokens, "tokens", tokenizer.vocab_size());
    return {{"content", tokenizer.decode(list, false)}};
  });
}

Json apply_template(const Json& body, const Engine& engine) {
  need_template(engine);
  const Json messages = messages_of(body);
  const ChatTemplate::Options options{
      .add_generation_prompt = flag(body, "add_generation_prompt", true), .tools = tools_of(body)};
  return {{"prompt", of_request("messages", [&] {
             return engine.chat_template()->render(messages, options);
           })}};
}

}  // namespace ms
