// tools_test.cpp: the forms of calls, by templates; conversations for templates that know none;
// replies taken apart, wherever they are cut.
#include "server/tools.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace ms {
namespace {

const Json tools = Json::parse(R"([{"type": "function", "function": {"name": "look_up",
  "description": "d", "parameters": {"type": "object"}}}])");

// As the models' own templates go about it, in short.
constexpr const char* hermes =
    "{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}\n<tool_call>\n{\"name\": \"{{ c.function.name }}\", "
    "\"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{% endfor %}";
constexpr const char* mistral =
    "{% for m in messages %}{% if loop.last and tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}"
    "[/AVAILABLE_TOOLS]{% endif %}{% if m.tool_calls %}[TOOL_CALLS] ["
    "{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}]{% else %}"
    "[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}";
constexpr const char* llama =
    "{% for t in tools or [] %}{{ t | tojson(indent=4) }}{% endfor %}{% for m in messages %}"
    "{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one') }}{% endif "
    "%}"
    "{\"name\": \"{{ m.tool_calls[0].function.name }}\", \"parameters\": "
    "{{ m.tool_calls[0].function.arguments | tojson }}}{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}";

constexpr const char* plain = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}";
constexpr const char* gemma2 =
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must "
    "alternate') }}{% endif %}<|{{ m.role }}|>{{ m.content }}{% endfor %}";

ChatTemplate template_of(const char* source) {
  return ChatTemplate::from_string(source, "<s>", "</s>");
}
const ToolForm* form_of(const char* source) { return ToolForm::of(template_of(source)); }

TEST(ToolForm, a_template_shows_its_own) {
  ASSERT_TRUE(form_of(hermes) && form_of(mistral) && form_of(llama));
  EXPECT_EQ(form_of(hermes), &ToolForm::usual());
  EXPECT_EQ(form_of(mistral)->start, "[TOOL_CALLS]");
  EXPECT_EQ(form_of(llama)->arguments, "parameters");
  // It shows no tools, no calls, or calls of another form; or it refuses them.
  for (const char* source :
       {"{% for m in messages %}{{ m.content }}{% endfor %}",
        "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] "
        "%}"
        "<tool_call><function={{ c.function.name }}>{% endfor %}{% endfor %}",
        "{{ raise_exception('no') }}"})
    EXPECT_EQ(form_of(source), nullptr) << source;
}

TEST(ToolForm, a_conversation_for_a_template_that_knows_no_tools) {
  const Json messages = Json::parse(R"([
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "?"},
    {"role": "assistant", "content": "", "tool_calls": [
      {"function": {"name": "look_up", "arguments": {"a": 1}}},
      {"function": {"name": "look_up", "arguments": {}}}]},
    {"role": "tool", "tool_call_id": "1", "content": "one"},
    {"role": "tool", "tool_call_id": "2", "content": "two"},
    {"role": "user", "content": "!"}])");
  const Json got = explain_tools(messages, tools, template_of(plain));
  ASSERT_EQ(got.size(), 5u);
  const std::string system = got[0]["content"];
  EXPECT_TRUE(system.starts_with("Be brief.\n\n"));
  EXPECT_NE(system.find(R"("name":"look_up","description":"d")"), std::string::npos);
  EXPECT_EQ(got[2]["content"],
            "<tool_call>\n{\"name\":\"look_up\",\"arguments\":{\"a\":1}}\n</tool_call>\n"
            "<tool_call>\n{\"name\":\"look_up\",\"arguments\":{}}\n</tool_call>");
  EXPECT_EQ(got[3], Json::parse(R"({"role": "user", "content":
    "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>"})"));
  EXPECT_EQ(got[4], messages[5]);
  // Without tools there is nothing to explain; without a system message, there is one.
  EXPECT_EQ(explain_tools(messages, nullptr, template_of(plain))[0], messages[0]);
  const Json question = Json::array({messages[1]});
  EXPECT_EQ(explain_tools(question, tools, template_of(plain))[0]["role"], "system");
}

TEST(ToolForm, a_template_that_takes_no_system_message_has_tools_explained_by_the_user) {
  const Json question = Json::parse(R"([{"role": "user", "content": "?"}])");
  const std::string about = explain_tools(question, tools, template_of(plain))[0]["content"];
  // It refuses one, or says nothing of it.
  for (const char* source :
       {gemma2, "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"}) {
    const ChatTemplate chat_template = template_of(source);
    const Json got = explain_tools(question, tools, chat_template);
    EXPECT_EQ(got, Json::array({{{"role", "user"}, {"content", about + "\n\n?"}}}));
    EXPECT_NE(chat_template.render(got, {}).find(about), std::string::npos);
    // Where no user asks, there is a message for it.
    const Json answer = Json::parse(R"([{"role": "assistant", "content": "!"}])");
    EXPECT_EQ(explain_tools(answer, tools, chat_template)[0]["content"], about);
    EXPECT_EQ(explain_tools(question, nullptr, chat_template), question);
  }
}

// "content|~thought|!name|{arguments}…", neighbours of a kind as one.
std::string shown(const std::vector<ReplyPart>& parts) {
  std::string out;
  const ReplyPart* last = nullptr;
  for (const ReplyPart& part : parts) {
    using enum ReplyPart::What;
    if (!last || last->what != part.what || part.what == call)
      out += part.what == reasoning ? "~" : part.what == call ? "!" : last ? "|" : "";
    out += part.text;
    last = &part;
  }
  return out;
}

std::string parsed(const ToolForm* form, std::string_view text,
                   ReplyParser::Thought thought = ReplyParser::Thought::never) {
  std::string whole;
  for (size_t size = 1; size <= text.size() + 1; ++size) {  // in pieces of every size
    ReplyParser parser(form, {"f", "g"}, thought);
    std::vector<ReplyPart> parts;
    const auto add = [&](std::vector<ReplyPart> more) {
      parts.insert(parts.end(), more.begin(), more.end());
    };
    for (size_t at = 0; at < text.size(); at += size) add(parser.push(text.substr(at, size)));
    add(parser.finish());
    const std::string now = shown(parts);
    if (size == 1) whole = now;
    EXPECT_EQ(now, whole) << "in pieces of " << size << ": " << text;
  }
  return whole;
}

TEST(ReplyParser, calls_as_hermes_writes_them) {
  const ToolForm* const form = form_of(hermes);
  const std::string one =
      "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"{\"}}\n</tool_call>";
  EXPECT_EQ(parsed(form, one), "!f|{\"a\": \"}\\\"{\"}");
  EXPECT_EQ(parsed(form, "So: \n" + one + "\n" + one + "\n"),
            "So:!f|{\"a\": \"}\\\"{\"}!f|{\"a\": \"}\\\"{\"}");
  EXPECT_EQ(parsed(form, one + " And then."), "!f|{\"a\": \"}\\\"{\"}| And then.");
  // Members in another order, arguments as text; without the marks.
  EXPECT_EQ(parsed(form, R"(<tool_call>{"arguments": {"x": [1]}, "name": "g"}</tool_call>)"),
            "!g|{\"x\":[1]}");
  EXPECT_EQ(parsed(form, R"(<tool_call>{"name": "g", "arguments": "{\"x\": 1}"}</tool_call>)"),
            "!g|{\"x\":1}");
  EXPECT_EQ(parsed(form, R"( {"name": "g", "arguments": {}})"), "!g|{}");
  const std::string bare = "\n{\"name\": \"g\", \"arguments\": {}}";
  EXPECT_EQ(parsed(form, bare + bare + "\n" + one + bare + "\n</tool_call>" + bare + "\n"),
            "!g|{}!g|{}!f|{\"a\": \"}\\\"{\"}!g|{}!g|{}");
  EXPECT_EQ(parsed(form, bare + "\n{\"name\": \"h\"} x"), "!g|{}|\n{\"name\": \"h\"} x");
  EXPECT_EQ(parsed(form, bare + " x" + bare), "!g|{}| x" + bare);
  // Broken off: what has come of the arguments, or nothing of the call.
  EXPECT_EQ(parsed(form, one.substr(0, 44)), "!f|" + one.substr(39, 5));
  for (const char* another :
       {"\n<tool_c", "\n<tool_call>", "\n<tool_call>\n", "\n<tool_call>\n{\"name\": \"g"})
    EXPECT_EQ(parsed(form, one + another), "!f|{\"a\": \"}\\\"{\"}");
  EXPECT_EQ(parsed(form, one + "\n<tool_call> x"), "!f|{\"a\": \"}\\\"{\"}|\n<tool_call> x");
}

TEST(ReplyParser, what_is_no_call_stays_content) {
  for (const ToolForm* const form : {form_of(hermes), form_of(mistral), form_of(llama)})
    for (const char* text :
         {"", " ", "Hello.\n", "<tool", "a <tool_call> b",
          "<tool_call>\n{\"name\": \"h\", \"arguments\": {}}",
          "<tool_call>{\"name\": \"f\"}</tool_call>", "<tool_call>{]} x", "<tool_call><tool_call>",
          "<tool_call>\n{\"name\": 1, \"arguments\": {}}\n</tool_call> ", "{\"a\": {\"b\": 1}}",
          "{", "}", "[TOOL_CALLS]", "[TOOL_CALLS] [1]", "[TOOL_CALLS][{\"name\": \"f\"}]",
          "{\"name\": \"f\", \"x\": {}}"})
      EXPECT_EQ(parsed(form, text), text);
  EXPECT_EQ(parsed(nullptr, "<tool_call>{} \n"), "<tool_call>{} \n");
}

TEST(ReplyParser, calls_are_whole_once_the_last_has_its_arguments) {
  const auto whole = [](std::string_view text) {
    ReplyParser parser(form_of(mistral), {"f", "g"}, ReplyParser::Thought::never);
    parser.push(text);
    parser.finish();
    return parser.has_whole_calls();
  };
  const std::string text =
      R"([TOOL_CALLS] [{"name": "f", "arguments": {"a": {}}}, {"name": "g", "arguments": {}}])";
  const size_t first = text.find("{\"a"), first_end = text.find("}, {") - 1;
  const size_t second = text.rfind("{}");
  for (size_t size = 0; size <= text.size(); ++size) {
    const bool in_arguments = (size > first && size <= first_end) || size == second + 1;
    EXPECT_EQ(whole(text.substr(0, size)), size > first && !in_arguments) << size;
  }
}

TEST(ReplyParser, calls_as_mistral_and_llama_write_them) {
  EXPECT_EQ(
      parsed(
          form_of(mistral),
          R"(Yes. [TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name":"g","arguments":{}}])"),
      "Yes.!f|{\"a\": 1}!g|{}");
  EXPECT_EQ(
      parsed(form_of(mistral), R"([TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "g)"),
      "!f|{}");
  EXPECT_EQ(parsed(form_of(llama), R"({"name": "f", "parameters": {"a": {"b": []}}})"),
            "!f|{\"a\": {\"b\": []}}");
  EXPECT_EQ(parsed(form_of(llama), R"(No {"name": "f", "parameters": {}})"),
            R"(No {"name": "f", "parameters": {}})");
  // A conversation may have no more than one of its calls.
  EXPECT_EQ(
      parsed(form_of(llama), R"({"name": "f", "parameters": {}} {"name": "f", "parameters": {}})"),
      R"(!f|{}| {"name": "f", "parameters": {}})");
}

TEST(ReplyParser, thoughts) {
  using enum ReplyParser::Thought;
  const ToolForm* const form = form_of(hermes);
  const std::string call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
  EXPECT_EQ(parsed(form, "<think>\nHm.\nSo\n</think>\n\nYes", may_begin), "~Hm.\nSo|Yes");
  EXPECT_EQ(parsed(nullptr, "\nHm.</think>Yes", begun), "~Hm.|Yes");
  EXPECT_EQ(parsed(form, "Hm." + call + "</think>\n" + call, begun), "~Hm." + call + "!f|{}");
  EXPECT_EQ(parsed(form, "<think>Hm.</think>\n" + call + " <think>", may_begin),
            "~Hm.!f|{}| <think>");
  EXPECT_EQ(parsed(nullptr, "Hm. ", begun), "~Hm.");
  EXPECT_EQ(parsed(nullptr, "<think>\n\n</think>\n\nYes", may_begin), "Yes");
  EXPECT_EQ(parsed(nullptr, "<thinking>", may_begin), "<thinking>");
  EXPECT_EQ(parsed(nullptr, "A <think>b</think>", may_begin), "A <think>b</think>");
  EXPECT_EQ(parsed(nullptr, "<think>b</think>", never), "<think>b</think>");
}

}  // namespace
}  // namespace ms
