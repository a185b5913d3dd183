// chat_template_test.cpp: golden conversations, what Jinja2 makes of real templates, and hostile
// ones.
#include "text/chat_template.hpp"

#include <gtest/gtest.h>

#include <ctime>

#include "formats/gguf_builder.hpp"
#include "text/test_data.hpp"

namespace ms {
namespace {

using Json = ChatTemplate::Json;

const Json kHi = Json::parse(R"([{"role": "user", "content": "Hi"}])");

std::string render(std::string_view source, const Json& variables = Json::object()) {
  return ChatTemplate::from_string(source, "<s>", "</s>").render(kHi, {.variables = variables});
}

std::optional<ChatTemplate> load(const std::filesystem::path& path) {
  const ModelFile file = open_model(path);
  return ChatTemplate::from_file(file, Tokenizer::from_file(file));
}

// What a template that fails says.
std::string failure(std::string_view source, const Json& messages = kHi) {
  try {
    const ChatTemplate chat_template = ChatTemplate::from_string(source, "<s>", "</s>");
    return "no error, but: " + chat_template.render(messages, {}).substr(0, 100);
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(ChatTemplate, the_golden_conversations_become_the_golden_text) {
  for (const std::string name : {"smollm2-135m", "qwen2.5-coder-0.5b"}) {
    const auto golden = shared_folder() / "golden" / (name + "-chat.json");
    if (!std::filesystem::exists(golden) || !std::filesystem::exists(model_file(name))) {
      GTEST_SKIP() << "needs " << golden << " and " << model_file(name);
    }
    const Json expected = read_json(golden);
    const auto chat_template = load(model_file(name));
    ASSERT_TRUE(chat_template);
    EXPECT_EQ(chat_template->render(expected["messages"], {}), expected["text"].get<std::string>());
  }
}

TEST(ChatTemplate, the_built_in_model_takes_a_system_message_and_turns) {
  if (!std::filesystem::exists(model_file("tales-31m")))
    GTEST_SKIP() << "needs " << model_file("tales-31m");
  const auto chat_template = load(model_file("tales-31m"));
  ASSERT_TRUE(chat_template);
  const Json messages = Json::parse(
      R"([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}])");
  EXPECT_EQ(chat_template->render(messages, {.add_generation_prompt = true}),
            "<|system|>\nBe kind.<|end|><|user|>\nHi<|end|><|assistant|>\n");
  EXPECT_EQ(chat_template->render(messages, {.add_generation_prompt = false}),
            "<|system|>\nBe kind.<|end|><|user|>\nHi<|end|>");
}

TEST(ChatTemplate, real_templates_give_what_jinja2_gives) {
  const auto folder = shared_folder() / "tokenizers";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "needs " << folder;
  const Json data = read_json(testdata("templates.json"));
  for (const auto& [file, cases] : data["expected"].items()) {
    std::string source = read_file(folder / file);
    if (file.ends_with(".json")) source = Json::parse(source)["chat_template"].get<std::string>();
    const ChatTemplate chat_template = ChatTemplate::from_string(source, "<s>", "</s>");
    for (const auto& [name, expected] : cases.items()) {
      const Json& input = data["cases"][name];
      std::string text, error;
      try {
        text = chat_template.render(
            input["messages"], {.add_generation_prompt = input["add_generation_prompt"],
                                .tools = input.contains("tools") ? input["tools"] : Json(nullptr),
                                .variables = data["variables"]});
      } catch (const Error& refusal) {
        error = refusal.what();
      }
      if (expected.is_string()) {
        EXPECT_EQ(hash_of(text), expected) << file << ", " << name << ": " << error << "\n" << text;
      } else {
        EXPECT_NE(error, "") << file << ", " << name << " is not refused:\n" << text;
        EXPECT_NE(error.find(expected["refused"].get<std::string>()), std::string::npos) << error;
      }
    }
  }
}

// A vocabulary of three tokens.
GgufBuilder vocabulary() {
  return GgufBuilder()
      .set("tokenizer.ggml.model", "gpt2")
      .set("tokenizer.ggml.pre", "gpt-2")
      .set("tokenizer.ggml.merges", std::vector<std::string_view>())
      .set("tokenizer.ggml.tokens", std::vector<std::string_view>{"a", "<b>", "<e>"});
}

TEST(ChatTemplate, a_file_without_a_template_has_none) {
  EXPECT_FALSE(load(TemporaryFile(vocabulary().bytes()).path()));
}

TEST(ChatTemplate, the_names_of_bos_and_eos_come_from_the_vocabulary) {
  const TemporaryFile file(vocabulary()
                               .set("tokenizer.chat_template", "{{ bos_token }}|{{ eos_token }}")
                               .set("tokenizer.ggml.bos_token_id", 1u)
                               .set("tokenizer.ggml.eos_token_id", 2u)
                               .bytes());
  EXPECT_EQ(load(file.path())->render(kHi, {}), "<b>|<e>");
}

TEST(ChatTemplate, blocks_leave_no_white_space) {
  EXPECT_EQ(render("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
  EXPECT_EQ(render("{%- for m in messages %}\n  {{- m.content }}!\n{%- endfor %}"), "Hi!");
}

TEST(ChatTemplate, tojson_writes_what_json_dumps_writes) {
  const Json x = {
      {"x",
       Json::parse(
           R"({"b": [1, 2.0, 1e16, 1e-5, true, null], "a": "<é\"\\\n\u0001\u007f😀>", "e": {}, "l": []})")}};
  EXPECT_EQ(render("{{ x|tojson }}", x),
            R"({"b": [1, 2.0, 1e+16, 1e-05, true, null], "a": "<é\"\\\n\u0001)"
            "\x7F"
            R"(😀>", "e": {}, "l": []})");
  EXPECT_EQ(render("{{ x.a|tojson(ensure_ascii=true) }}", x),
            R"("<\u00e9\"\\\n\u0001\u007f\ud83d\ude00>")");
  EXPECT_EQ(render("{{ x|tojson(indent=2, sort_keys=true) }}",
                   {{"x", Json::parse(R"({"b": [1, {}], "a": []})")}}),
            "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {}\n  ]\n}");
  EXPECT_EQ(render("{{ x|tojson(separators=(',', ':')) }}",
                   {{"x", Json::parse(R"({"b": [1, 2], "a": 3})")}}),
            R"({"b":[1,2],"a":3})");
}

TEST(ChatTemplate, values_are_written_as_python_writes_them) {
  const Json x = {{"x", Json::parse(R"({"k": ["it's", "\"", true, null, 0.5]})")}};
  const std::string expected = R"({'k': ["it's", '"', True, None, 0.5]})";
  EXPECT_EQ(render("{{ x }}", x), expected);
  EXPECT_EQ(render("{{ ' ' + x|string }}", x), " " + expected);
  EXPECT_EQ(render("{{ x|trim }}", x), expected);
  EXPECT_EQ(render("{{ true }} {{ none }} {{ nothing }}"), "True None ");
  EXPECT_EQ(
      render("{{ 'a\n\nb\n'|indent(2) }}|{{ 'a\n\nb'|indent(width=2, first=true, blank=true) }}"),
      "a\n\n  b\n|  a\n  \n  b");
}

TEST(ChatTemplate, the_methods_of_python_strings_count_characters) {
  EXPECT_EQ(
      render(
          "{% set t = 'é</think>x' %}{{ t.find('<') }} {{ t[t.find('<'):] }} {{ t.rfind('no') }}"),
      "1 </think>x -1");
  EXPECT_EQ(
      render("{{ 'abc'.count('') }} {{ 'aXa'.split('X') }} {{ ' a '.strip() }} {{ "
             "'ab'.startswith('a') }} {{ 'ab'.removeprefix('a') }} {{ 'ab'.removesuffix('a') }}"),
      "4 ['a', 'a'] a True b ab");
  EXPECT_EQ(
      render(
          "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.get('b', 2) }}"),
      "a12");
}

TEST(ChatTemplate, what_transformers_adds_to_jinja_is_there) {
  EXPECT_EQ(render("{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 "
                   "%}{% break %}{% endif %}{{ i }}{% endfor %}"),
            "013");
  EXPECT_EQ(render("a\n{%- generation %}\n b\n{%- endgeneration %} c"), "a b c");
  EXPECT_EQ(render("{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }}"),
            "True True True");
  char year[5];
  const std::time_t now = std::time(nullptr);
  std::strftime(year, sizeof year, "%Y", std::localtime(&now));
  EXPECT_EQ(render("{{ strftime_now('%Y') }}"), year);
  EXPECT_NE(failure("{{ strftime_now('%') }}").find("strftime_now does not know the format \"%\""),
            std::string::npos);
}

TEST(ChatTemplate, what_python_refuses_is_refused) {
  EXPECT_NE(failure("{% for t in tools %}x{% endfor %}").find("none is not iterable"),
            std::string::npos);
  EXPECT_EQ(render("{% for t in nothing %}x{% endfor %}{{ tools|map('upper')|list }}"), "[]");
  const std::string generator = "{% set c = messages|map(attribute='content') %}";
  EXPECT_NE(failure(generator + "{{ c|tojson }}").find("a generator has no JSON form"),
            std::string::npos);
  EXPECT_EQ(render(generator + "{{ c|list|tojson }}{{ messages[1:]|tojson }}{{ c|list }}"),
            "[\"Hi\"][][]");
}

TEST(ChatTemplate, markup_escapes_what_is_added_to_it) {
  EXPECT_EQ(render("{{ '<a>'|safe + '<\"&\\'>' + 'b' }} {{ '<' + '<'|e }} {{ '<'|safe ~ '<' }}"),
            "<a>&lt;&#34;&amp;&#39;&gt;b &lt;&lt; <<");
  EXPECT_EQ(render("{{ 1 + 2 }} {{ ([1] + [2])|list }} {{ '<' + '>' }} {{ 'x'|safe }}"),
            "3 [1, 2] <> x");
  EXPECT_NE(failure("{{ 'x'|safe + 1 }}").find("use + operator"), std::string::npos);
}

TEST(ChatTemplate, the_order_of_keys_is_kept) {
  const Json tools =
      Json::parse(R"([{"type": "function", "function": {"name": "f", "b": 1, "a": 2}}])");
  const ChatTemplate chat_template = ChatTemplate::from_string("{{ tools|tojson }}", "", "");
  EXPECT_EQ(chat_template.render(kHi, {.tools = tools}),
            R"([{"type": "function", "function": {"name": "f", "b": 1, "a": 2}}])");
}

TEST(ChatTemplate, a_conversation_that_the_template_refuses_says_why) {
  EXPECT_NE(failure("{{ raise_exception('System role not supported') }}")
                .find("System role not supported"),
            std::string::npos);
  EXPECT_NE(failure("\n{{ messages[0]['nothing'] + 'x' }}").find("chat template:2"),
            std::string::npos);
  EXPECT_NE(failure("{{ messages[").find("cannot be read"), std::string::npos);
}

TEST(ChatTemplate, messages_that_are_no_array_are_refused) {
  const ChatTemplate chat_template = ChatTemplate::from_string("x", "", "");
  EXPECT_THROW(chat_template.render(Json::object(), {}), std::invalid_argument);
  EXPECT_THROW(chat_template.render(kHi, {.tools = 7}), std::invalid_argument);
  EXPECT_THROW(chat_template.render(kHi, {.variables = Json::array()}), std::invalid_argument);
}

TEST(ChatTemplate, bytes_that_are_not_utf8_become_replacement_characters) {
  const Json messages = {{{"role", "user"}, {"content", "a\xFFz"}}};
  EXPECT_EQ(ChatTemplate::from_string("{{ messages[0].content }}", "", "").render(messages, {}),
            "a\uFFFDz");
  EXPECT_NE(failure("\xFF").find("utf-8"), std::string::npos);
}

TEST(ChatTemplate, a_hostile_template_ends_with_an_error) {
  const auto repeat = [](std::string_view text, size_t times) {
    std::string out;
    for (size_t i = 0; i < times; ++i) out += text;
    return out;
  };
  const std::string nested =
      "{% set n = namespace(x=[]) %}{% for i in range(90000) %}{% set n.x = [n.x] %}{% endfor %}";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "steps"},
      {"{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}", "writes more than"},
      {"{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor "
       "%}",
       "memory"},
      {"{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor "
       "%}{{ 2 in n.x }}",
       "memory"},
      {"{{ ('a' * 99999).replace('a', 'b' * 99999) }}", "memory"},
      {"{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion"},
      {"{% include 'chat template' %}", "recursion"},
      {nested + "{{ n.x }}", "nested deeper"},
      {nested + "{{ n.x|tojson }}", "nested deeper"},
      {nested + "{{ n.x ~ raise_exception('survived') }}", "survived"},
      {"{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}", "recursion"},
      {"{{ " + repeat("not ", 100000) + "1 }}{{ raise_exception('survived') }}", "survived"},
      {"{{ 1" + repeat(" + 1", 100000) + " }}{{ raise_exception('survived') }}", "survived"},
      {"{% if 0 %}" + repeat("{% elif 0 %}", 50000) +
           "{% endif %}{{ raise_exception('survived') }}",
       "survived"},
  };
  for (const auto& [source, expected] : cases) {
    const std::string message = failure(source);
    EXPECT_NE(message.find(expected), std::string::npos) << source.substr(0, 100) << "\n"
                                                         << message;
  }
}

TEST(ChatTemplate, a_template_that_was_stopped_does_not_run_again) {
  const ChatTemplate chat_template = ChatTemplate::from_string(
      "{{ messages[0].content }}{% if bomb %}{{ ('a' * 99999).replace('a', 'b' * 99999) }}{% endif "
      "%}",
      "", "");
  EXPECT_EQ(chat_template.render(kHi, {}), "Hi");
  EXPECT_THROW(chat_template.render(kHi, {.variables = {{"bomb", true}}}), Error);
  EXPECT_THROW(chat_template.render(kHi, {}), Error);
}

TEST(ChatTemplate, a_long_conversation_stays_within_the_limits) {
  Json messages = Json::array();
  for (int i = 0; i < 20000; ++i)
    messages.push_back({{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", "x"}});
  const std::string text = ChatTemplate::from_string(
                               "{% for m in messages %}{% if m.role == 'user' %}U{% elif m.role == "
                               "'assistant' %}A{% endif %}{{ m.content|trim }}{% endfor %}",
                               "", "")
                               .render(messages, {});
  EXPECT_EQ(text.size(), 40000u);
}

}  // namespace
}  // namespace ms
