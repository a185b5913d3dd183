// api.cpp: every parameter that is known is checked, and refused where it would change the answer
// and cannot; names that are not known are ignored, as OpenAI's clients and others send new ones.
#include "server/api.hpp"

#include <algorithm>
#include <bit>
#include <cctype>
#include <charconv>
#include <cmath>
#include <random>
#include <set>

#include "base/error.hpp"
#include "base/range.hpp"
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
    refuse(name, "{} is {}, want {}", name, result, range(least, most));
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
    refuse(name, "{} is {}, want {}", name, value->dump(), range(least, most));
  return result;
}

// A number of tokens; -1: no limit, as llama-server has it.
int64_t limit(const Json& body, const char* name, int64_t least, int64_t otherwise) {
  const Json* const value = find(body, name);
  if (value && value->is_number_integer() && *value == -1) return -1;
  return integer(body, name, least, INT64_MAX, otherwise);
}

bool flag(const Json& object, const char* name, bool otherwise, const std::string& param) {
  const Json* const value = find(object, name);
  if (!value) return otherwise;
  if (!value->is_boolean())
    refuse(param, "{} is {}, want true or false", param, value->type_name());
  return value->get<bool>();
}
bool flag(const Json& body, const char* name, bool otherwise) {
  return flag(body, name, otherwise, name);
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

// Parameters of OpenAI's, or that users of llama-server may expect, that would change the answer
// and are not there: refused, unless they have the value that changes nothing. Those that only
// advise (user, metadata, store, service_tier, safety_identifier, prediction, prompt_cache_…) are
// ignored.
constexpr struct {
  const char *name, *harmless, *instead;
} refused[] = {
    {"functions", "[]", "tools replaces it"},
    {"function_call", R"("none")", "tool_choice replaces it"},
    {"audio", "null", "answers are text"},
    {"modalities", R"(["text"])", "answers are text"},
    {"moderation", "null", "nothing is judged"},
    {"web_search_options", "null", "nothing is searched"},
    {"verbosity", R"("medium")", "say it in a message"},
    {"n_predict", "null", "max_tokens does it"},
    {"grammar", "null", R"(response_format {"type": "grammar", "grammar": …} does it, in Lark)"},
    {"json_schema", "null",
     R"(response_format {"type": "json_schema", "json_schema": {"schema": …}} does it)"},
};
// What one of the two routes has alone.
constexpr const char* of_chat[] = {"messages", "tools", "tool_choice", "chat_template_kwargs"};
constexpr const char* of_completions[] = {"prompt", "suffix", "echo"};

void refuse_unsupported(const Json& body) {
  for (const auto& [name, harmless, instead] : refused)
    if (const Json* const value = find(body, name); value && *value != Json::parse(harmless))
      refuse(name, "{} is not supported: {}", name, instead);
}

void refuse_of_other(const Json& body, std::span<const char* const> names, const char* route) {
  for (const char* name : names)
    if (find(body, name)) refuse(name, "{} is for {}", name, route);
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

// OpenAI's forms, and three more: {"type": "json_object", "schema": …}, {"type": "regex", "regex":
// …}, {"type": "grammar", "grammar": …}.
std::optional<Constraint> form(const Json& body, const Engine& engine) {
  constexpr const char* name = "response_format";
  const Json* const value = find(body, name);
  if (!value) return {};
  if (!value->is_object()) refuse(name, "{} is {}, want an object", name, value->type_name());
  const auto member = [&](const char* key) {
    return text(*value, key, fmt::format("{}.{}", name, key));
  };
  const std::string type = member("type");
  Constraint constraint;
  using enum Constraint::Kind;
  if (type == "text") return {};
  if (type == "json_schema") {
    const Json* const named = find(*value, "json_schema");
    const Json* const schema = named && named->is_object() ? find(*named, "schema") : nullptr;
    if (!schema) refuse(name, "{} has no json_schema.schema", name);
    constraint = {json_schema, to_text(*schema)};
  } else if (type == "regex") {
    constraint = {regex, member("regex")};
  } else if (type == "grammar") {
    constraint = {lark, member("grammar")};
  } else if (type == "json_object") {
    if (const Json* const schema = find(*value, "schema"))
      constraint = {json_schema, to_text(*schema)};
  } else {
    refuse(name,
           "response_format.type is {:?}, want text, json_object, json_schema, regex or grammar",
           type);
  }
  // Tried here, too, so that what is wrong with it is said at once.
  try {
    check_constraint(engine.tokenizer(), constraint);
  } catch (const Error& error) {
    refuse(name, "{}: {}", name, error.what());
  }
  return constraint;
}

void need_text(const Engine& engine) {
  if (engine.is_encoder())
    refuse("model", "the model is an encoder, which writes no text: /v1/embeddings takes it");
}

Completion read_common(const Json& body, const Engine& engine, int64_t max_tokens,
                       int64_t least_tokens) {
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
    s.top_k = uint32_t(std::max<int64_t>(integer(body, "top_k", -1, UINT32_MAX, 0), 0));
  s.min_p = float(number(body, "min_p", 0, 1, 0));
  s.presence_penalty = float(number(body, "presence_penalty", -2, 2, 0));
  s.frequency_penalty = float(number(body, "frequency_penalty", -2, 2, 0));
  s.repeat_penalty = float(number(body, "repeat_penalty", 0.01, 100, 1));
  // -1, as llama-server has it: the whole context.
  s.repeat_last_n = uint32_t(integer(body, "repeat_last_n", -1, UINT32_MAX, s.repeat_last_n));
  const int64_t seed = integer(body, "seed", INT64_MIN, INT64_MAX, -1);  // -1: a random one
  s.seed = seed == -1 ? std::random_device()() : uint32_t(seed) ^ uint32_t(uint64_t(seed) >> 32);
  result.request.max_tokens = limit(body, "max_tokens", least_tokens, max_tokens);
  result.request.max_tokens =
      limit(body, "max_completion_tokens", least_tokens, result.request.max_tokens);
  // Beyond any context: sums with it must not overflow.
  result.request.max_tokens = std::min<int64_t>(result.request.max_tokens, UINT32_MAX);
  result.request.stop = stops(body);
  result.request.ignore_eos = flag(body, "ignore_eos", false);
  result.request.logit_bias = biases(body, engine.config().vocab);
  result.request.constraint = form(body, engine);
  result.form = "response_format";
  result.choices = uint32_t(integer(body, "n", 1, most_choices, 1));
  if (integer(body, "best_of", 1, INT64_MAX, result.choices) != result.choices)
    refuse("best_of", "best_of is not supported, but as many as n: each choice is an answer");
  result.stream = flag(body, "stream", false);
  if (const Json* const options = find(body, "stream_options")) {
    if (!options->is_object())
      refuse("stream_options", "stream_options is {}, want an object", options->type_name());
    if (!result.stream) refuse("stream_options", "stream_options is for \"stream\": true");
    result.stream_usage = flag(*options, "include_usage", false, "stream_options.include_usage");
  }
  return result;
}

void check_prompt(const std::vector<uint32_t>& prompt, const Engine& engine, const char* param) {
  if (prompt.empty()) refuse(param, "{} has no tokens: there is nothing to go on", param);
  if (prompt.size() > engine.context())
    throw ApiError(
        400,
        fmt::format(
            "{} has {} tokens, the context holds {}: shorten it{}", param, prompt.size(),
            engine.context(),
            engine.can_be_longer() ? ", or serve the model with a larger context (-c)" : ""),
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
    else if (role == "assistant" && find(from, "refusal"))
      to["content"] = text(from, "refusal", param + ".refusal");
    else if (role == "assistant" && from.contains("content"))  // null, as of an empty answer
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

// Tools as the model sees them, and as it may call them.
struct Tools {
  Json shown = nullptr;  // or a list
  std::vector<Tool> callable;
  bool must_call = false, several = true;
};

// What it may be called with; without parameters, nothing.
Json parameters_of(const Json& function, const std::string& function_param) {
  const std::string param = function_param + ".parameters";
  const Json* const parameters = find(function, "parameters");
  Json schema =
      parameters ? *parameters : Json{{"type", "object"}, {"additionalProperties", false}};
  if (!schema.is_object()) refuse(param, "{} is {}, want a JSON schema", param, schema.type_name());
  if (!schema.contains("type") || schema["type"] == Json::array({"object"}))
    schema["type"] = "object";
  if (schema["type"] != "object")
    refuse(param, "{}.type is {}, want \"object\": arguments have names", param,
           schema["type"].dump());
  // Keywords that cannot be enforced count as absent, unless all must hold.
  if (!flag(function, "strict", false, function_param + ".strict") &&
      !schema.contains("x-guidance"))
    schema["x-guidance"] = {{"lenient", true}};
  return schema;
}

bool is_function_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.';
  });
}

std::string name_of_chosen(const Json& chosen) {
  const Json* const function = chosen.is_object() ? find(chosen, "function") : nullptr;
  if (!function || !function->is_object() || find(chosen, "type") == nullptr ||
      chosen["type"] != "function")
    refuse("tool_choice",
           "tool_choice names no {{\"type\": \"function\", \"function\": "
           "{{\"name\": …}}}}");
  return text(*function, "name", "tool_choice");
}

Tools tools_of(const Json& body) {
  Tools result;
  const Json* const tools = find(body, "tools");
  if (tools && (!tools->is_array() || tools->size() > most_tools))
    refuse("tools", "tools is no list of at most {}", most_tools);
  for (size_t i = 0; tools && i < tools->size(); ++i) {
    const Json& tool = (*tools)[i];
    const std::string param = fmt::format("tools[{}]", i);
    if (!tool.is_object()) refuse(param, "{} is {}, want an object", param, tool.type_name());
    if (const std::string type = text(tool, "type", param + ".type"); type != "function")
      refuse(param + ".type", "{}.type is {:?}, want function", param, type);
    const Json* const function = find(tool, "function");
    if (!function || !function->is_object())
      refuse(param + ".function", "{}.function is no object", param);
    const std::string name_param = param + ".function.name";
    const std::string name = text(*function, "name", name_param);
    if (!is_function_name(name))
      refuse(name_param, "{} is {:?}, want 1 to 64 letters, digits, _, - and .", name_param, name);
    if (std::ranges::any_of(result.callable, [&](const Tool& t) { return t.name == name; }))
      refuse(name_param, "{} is {:?}, like one before it", name_param, name);
    if (find(*function, "description"))
      text(*function, "description", param + ".function.description");
    result.callable.push_back({name, parameters_of(*function, param + ".function")});
  }
  result.several = flag(body, "parallel_tool_calls", true);

  std::string mode = "auto";
  std::set<std::string> allowed;
  if (const Json* const choice = find(body, "tool_choice")) {
    if (choice->is_string()) {
      mode = choice->get<std::string>();
    } else if (choice->is_object() && choice->value("type", Json()) == "allowed_tools") {
      const Json* const some = find(*choice, "allowed_tools");
      if (!some || !some->is_object() || !find(*some, "tools") || !(*some)["tools"].is_array())
        refuse("tool_choice", "tool_choice.allowed_tools has no list of tools");
      mode = text(*some, "mode", "tool_choice");
      if (mode != "auto" && mode != "required")
        refuse("tool_choice", "tool_choice.allowed_tools.mode is {:?}, want auto or required",
               mode);
      for (const Json& one : (*some)["tools"]) allowed.insert(name_of_chosen(one));
      if (allowed.empty()) refuse("tool_choice", "tool_choice.allowed_tools.tools is empty");
    } else {
      mode = "required";
      allowed = {name_of_chosen(*choice)};
      result.several = false;
    }
    if (mode != "auto" && mode != "none" && mode != "required")
      refuse("tool_choice", "tool_choice is {:?}, want auto, none, required or a function", mode);
    if (mode == "required" && result.callable.empty())
      refuse("tool_choice", "tool_choice wants a call, but there are no tools");
  }
  for (const std::string& name : allowed)
    if (std::ranges::none_of(result.callable, [&](const Tool& t) { return t.name == name; }))
      refuse("tool_choice", "tool_choice names {:?}, which is none of tools", name);
  if (mode == "none" || result.callable.empty()) return {};
  if (!allowed.empty())
    std::erase_if(result.callable, [&](const Tool& t) { return !allowed.contains(t.name); });
  result.must_call = mode == "required";
  result.shown = *tools;
  return result;
}

// For the template, by chat_template_kwargs and reasoning_effort.
Json variables_of(const Json& body) {
  Json variables = Json::object();
  if (find(body, "reasoning_effort"))
    variables["reasoning_effort"] = text(body, "reasoning_effort", "reasoning_effort");
  constexpr const char* name = "chat_template_kwargs";
  const Json* const value = find(body, name);
  if (!value) return variables;
  if (!value->is_object()) refuse(name, "{} is {}, want an object", name, value->type_name());
  for (const char* own : {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})
    if (value->contains(own))
      refuse(name, "{} may not have {:?}: that is not its to say", name, own);
  variables.update(*value);
  return variables;
}

struct Conversation {
  Json messages;
  ChatTemplate::Options options;
};

// As the template takes it. `form`: null for a template that does not know tools.
Conversation conversation_of(const Json& body, const Tools& tools, const ToolForm* form,
                             const ChatTemplate& chat_template) {
  Conversation result{messages_of(body), {.tools = tools.shown, .variables = variables_of(body)}};
  const auto about_tools = [](const Json& message) {
    return message["role"] == "tool" || message.contains("tool_calls");
  };
  if (form || (tools.shown.is_null() && std::ranges::none_of(result.messages, about_tools)))
    return result;
  result.messages = explain_tools(result.messages, tools.shown, chat_template);
  result.options.tools = nullptr;
  return result;
}

// A special token that text may not spell.
std::optional<uint32_t> special_token(const Tokenizer& tokenizer, std::string_view name) {
  const auto tokens = tokenizer.encode(name, {.add_special = false, .parse_special = true});
  const bool found = tokens.size() == 1 && tokenizer.piece(tokens[0]) == name;
  return found ? std::optional(tokens[0]) : std::nullopt;
}

// Holds what the request wants to calls of its tools.
void constrain_calls(Completion& completion, const Tools& tools, const Engine& engine,
                     const ToolForm& form) {
  if (completion.request.constraint)
    refuse("response_format",
           "response_format and tools exclude each other; tool_choice \"none\" "
           "hides the tools");
  const Tokenizer& tokenizer = engine.tokenizer();
  // What only a special token says no grammar can: the prompt says it.
  std::optional<uint32_t> start;
  if (tools.must_call && !form.start.empty()) start = special_token(tokenizer, form.start);
  const bool in_prompt = start && tokenizer.is_control(*start);
  Constraint constraint =
      calls_constraint(form, tools.callable, tools.several, !tools.must_call, in_prompt);
  for (const Tool& tool : tools.callable) try {
      check_constraint(tokenizer, {Constraint::Kind::json_schema, to_text(tool.parameters)});
    } catch (const Error& error) {
      refuse("tools", "the parameters of {}: {}", tool.name, error.what());
    }
  try {
    check_constraint(tokenizer, constraint);
  } catch (const Error& error) {
    refuse("tools", "tools: {}", error.what());
  }
  completion.request.constraint = std::move(constraint);
  completion.form = "tools";
  if (!in_prompt) return;
  completion.prompt.push_back(start.value_or(0));
  completion.reply.push(form.start);
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

// Whether a reply begins with a thought, or the prompt has begun one.
ReplyParser::Thought thought_of(const std::vector<uint32_t>& prompt, const Engine& engine) {
  using enum ReplyParser::Thought;
  constexpr std::string_view start = "<think>";
  if (engine.chat_template()->source().find(start) == std::string_view::npos) return never;
  const size_t few = std::min<size_t>(prompt.size(), 8);
  const std::string end = engine.tokenizer().decode(std::span(prompt).last(few), false);
  return end.substr(0, end.find_last_not_of(" \n") + 1).ends_with(start) ? begun : may_begin;
}

Completion read_chat(const Json& body, const Engine& engine, const ToolForm* form) {
  need_text(engine);
  need_template(engine);
  Completion result = read_common(body, engine, -1, 1);
  refuse_of_other(body, of_completions, "/v1/completions");
  if (flag(body, "logprobs", false))
    result.request.logprobs = int32_t(integer(body, "top_logprobs", 0, most_logprobs, 0));
  else if (find(body, "top_logprobs"))
    refuse("top_logprobs", "top_logprobs is for \"logprobs\": true");
  const Tools tools = tools_of(body);
  const Conversation conversation = conversation_of(body, tools, form, *engine.chat_template());
  result.prompt = of_request(
      "messages", [&] { return engine.encode_chat(conversation.messages, conversation.options); });
  std::set<std::string> names;
  for (const Tool& tool : tools.callable) names.insert(tool.name);
  const ToolForm& used = form ? *form : ToolForm::usual();
  result.reply = {names.empty() ? nullptr : &used, names, thought_of(result.prompt, engine)};
  if (!names.empty()) constrain_calls(result, tools, engine, used);
  check_prompt(result.prompt, engine, "messages");
  return result;
}

// What is to be continued: a string, or a list of what should be tokens; either of them may be in a
// list of its own.
const Json& prompt_in(const Json& body) {
  const Json* prompt = find(body, "prompt");
  if (!prompt) refuse("prompt", "prompt is missing");
  const auto lists_prompts = [](const Json& json) {
    return json.is_array() && !json.empty() && (json[0].is_string() || json[0].is_array());
  };
  if (lists_prompts(*prompt)) {
    if (prompt->size() > 1)
      refuse("prompt", "prompt is a list of {} prompts, want one of them a request",
             prompt->size());
    prompt = &prompt->front();
  }
  if (!prompt->is_string() && (!prompt->is_array() || lists_prompts(*prompt)))
    refuse("prompt", "prompt is {}, want a string or a list of tokens", prompt->type_name());
  return *prompt;
}

// As tokens.
std::vector<uint32_t> tokens_of_prompt(const Json& prompt, const Engine& engine, bool framed) {
  if (!prompt.is_string()) return tokens_of(prompt, "prompt", engine.config().vocab);
  return of_request("prompt", [&] {
    return engine.tokenizer().encode(prompt.get_ref<const std::string&>(),
                                     {.add_special = framed, .parse_special = false});
  });
}

// What stands between a prompt and a suffix is asked for by special tokens, of whose names models
// have these.
std::vector<uint32_t> prompt_with_suffix(const Json& prompt, const std::string& suffix,
                                         const Engine& engine) {
  constexpr const char* names[][3] = {
      {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},  // Qwen2.5-Coder, Gemma
      {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},        // StarCoder, Granite
      {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},  // DeepSeek-Coder
      {"▁<PRE>", "▁<SUF>", "▁<MID>"},                          // CodeLlama
  };
  return of_request("suffix", [&] {
    const Tokenizer& tokenizer = engine.tokenizer();
    for (const auto& [before, behind, between] : names) {
      const auto a = special_token(tokenizer, before), b = special_token(tokenizer, behind),
                 c = special_token(tokenizer, between);
      if (!a || !b || !c) continue;
      std::vector<uint32_t> result = tokenizer.encode("", {.add_special = true});
      const auto add = [&](const std::vector<uint32_t>& tokens) {
        result.insert(result.end(), tokens.begin(), tokens.end());
      };
      add({*a});
      add(tokens_of_prompt(prompt, engine, false));
      add({*b});
      add(tokenizer.encode(suffix, {.add_special = false, .parse_special = false}));
      add({*c});
      return result;
    }
    fail("the model has no tokens to fill in with (like <|fim_prefix|>): suffix is not for it");
  });
}

Completion read_completion(const Json& body, const Engine& engine) {
  Completion result = read_common(body, engine, 16, 0);
  refuse_of_other(body, of_chat, "/v1/chat/completions");
  result.request.logprobs = int32_t(integer(body, "logprobs", 0, most_logprobs, -1));
  const std::string suffix = find(body, "suffix") ? text(body, "suffix", "suffix") : "";
  const Json& prompt = prompt_in(body);
  result.prompt = suffix.empty() ? tokens_of_prompt(prompt, engine, true)
                                 : prompt_with_suffix(prompt, suffix, engine);
  if (result.prompt.empty() && prompt.is_string() && engine.tokenizer().bos())
    result.prompt = {*engine.tokenizer().bos()};
  check_prompt(result.prompt, engine, "prompt");
  if (!flag(body, "echo", false)) return result;
  if (result.request.logprobs >= 0)
    refuse("echo", "echo with logprobs is not supported: only what is generated has logprobs");
  result.echo = prompt.is_string() ? prompt.get<std::string>() : of_request("echo", [&] {
    return engine.tokenizer().decode(result.prompt, false);
  });
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

bool is_utf8(const std::string& bytes) { return Utf8Stream().push(bytes) == bytes; }

Json bytes_of(std::string_view text) {
  Json bytes = Json::array();
  for (const char byte : text) bytes.push_back(uint8_t(byte));
  return bytes;
}

Json chat_logprobs(const std::vector<TokenReport>& reports) {
  const auto entry = [](const TokenLogprob& t) {
    return Json{{"token", t.bytes}, {"logprob", t.logprob}, {"bytes", bytes_of(t.bytes)}};
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

// A token's text; where that is no UTF-8, its bytes, as OpenAI writes them: tokens keep apart,
// which U+FFFD would make one.
std::string name_of_token(const std::string& bytes) {
  if (is_utf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) name += fmt::format("\\x{:02x}", uint8_t(byte));
  return name;
}

Json text_logprobs(const std::vector<TokenReport>& reports, size_t& offset) {
  Json tokens = Json::array(), logprobs = tokens, tops = tokens, offsets = tokens;
  for (const TokenReport& report : reports) {
    tokens.push_back(name_of_token(report.drawn.bytes));
    logprobs.push_back(report.drawn.logprob);
    Json top = Json::object();
    for (const TokenLogprob& t : report.likeliest) top[name_of_token(t.bytes)] = t.logprob;
    tops.push_back(std::move(top));
    offsets.push_back(offset);
    offset += code_points(std::string_view(report.drawn.bytes).substr(report.hidden));
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
  const Tokenizer& tokenizer = engine.tokenizer();
  const auto tokens = of_request("content", [&] { return tokenizer.encode(content, options); });
  if (!flag(body, "with_pieces", false)) return {{"tokens", tokens}};
  // As llama-server: what is no UTF-8 is a list of bytes.
  Json list = Json::array();
  for (const uint32_t token : tokens) {
    const std::string piece(tokenizer.piece(token));
    if (is_utf8(piece))
      list.push_back({{"id", token}, {"piece", piece}});
    else
      list.push_back({{"id", token}, {"piece", bytes_of(piece)}});
  }
  return {{"tokens", std::move(list)}};
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

Json apply_template(const Json& body, const Engine& engine, const ToolForm* form) {
  need_text(engine);
  need_template(engine);
  Conversation conversation = conversation_of(body, tools_of(body), form, *engine.chat_template());
  conversation.options.add_generation_prompt = flag(body, "add_generation_prompt", true);
  return {{"prompt", of_request("messages", [&] {
             return engine.chat_template()->render(conversation.messages, conversation.options);
           })}};
}

}  // namespace ms
