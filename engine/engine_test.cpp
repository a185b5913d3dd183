// engine_test.cpp: generation on this machine's device: stopping, streaming, limits, repeatability,
// and what a step costs the host. Most of it with a scripted model.
#include "engine/engine.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/nmse.hpp"
#include "base/test_errors.hpp"
#include "base/test_files.hpp"
#include "engine/guidance.hpp"
#include "engine/scripted_model.hpp"
#include "engine/steps_ahead.hpp"
#include "engine/stop.hpp"

namespace ms {
namespace {

using Tokens = std::vector<uint32_t>;
using Texts = std::vector<std::string>;

constexpr const char* smiley = "\xF0\x9F\x98\x80";

// An engine that follows a script.
struct Scripted {
  TemporaryFile file;
  Engine engine;

  explicit Scripted(const Script& script)
      : file(scripted_model(script)), engine(EngineOptions{.model = file.path()}) {}

  // Greedily, with the texts as they came.
  Generation generate(std::string_view prompt, Request request = {}, Texts* texts = nullptr) {
    request.sampling.temperature = 0;
    return engine.generate(script_tokens(prompt), request, [&](std::string_view text) {
      if (texts) texts->emplace_back(text);
      return true;
    });
  }
};

TEST(StopMatcher, text_that_may_become_a_stop_string_is_held_back) {
  StopMatcher matcher({"END", "dot"});
  EXPECT_EQ(matcher.push("one E"), "one ");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("E"), "EN");
  EXPECT_EQ(matcher.push("ND and more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, the_end_of_the_stream_shows_what_was_held_back) {
  StopMatcher matcher({"abc", ""});
  EXPECT_EQ(matcher.push("xab"), "x");
  EXPECT_EQ(matcher.finish(), "ab");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, the_first_stop_string_in_the_text_counts) {
  StopMatcher matcher({"three", "two", "aab"});
  EXPECT_EQ(matcher.push("one two three"), "one ");
  StopMatcher overlapping({"aab"});
  EXPECT_EQ(overlapping.push("aa"), "");
  EXPECT_EQ(overlapping.push("a"), "a");
  EXPECT_EQ(overlapping.push("b"), "");
  EXPECT_TRUE(overlapping.stopped());
}

TEST(Engine, a_stop_token_ends_the_text) {
  Scripted scripted({.chain = std::string(">Helo wrd.") + script_eos});
  const Generation g = scripted.generate(">");
  EXPECT_EQ(g.text, "Helo wrd.");
  EXPECT_EQ(g.finish, Finish::stop_token);
  EXPECT_EQ(g.tokens, script_tokens(std::string("Helo wrd.") + script_eos));
  EXPECT_EQ(g.prompt_tokens, 1u);
}

TEST(Engine, logits_that_are_no_numbers_are_an_error_however_a_token_is_drawn) {
  Scripted broken({.chain = ">ab", .last_norm = NAN});
  const auto failure = [&](const Request& request) {
    return message_of<Error>([&] { broken.engine.generate(script_tokens(">"), request); });
  };
  Request greedy, last, hot, any, biased, reported, held;
  greedy.sampling.temperature = last.sampling.temperature = 0;
  last.max_tokens = 1;
  any.sampling = {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0};
  biased.logit_bias = {{5, 10.f}};
  reported.logprobs = 2;
  held.constraint = Constraint{Constraint::Kind::regex, "[!ab]+"};
  for (const Request& request : {greedy, last, hot, any, biased, reported, held})
    EXPECT_SAYS(failure(request), "the model's logits are not finite: its weights are broken");
  EXPECT_SAYS(message_of<Error>([&] { broken.engine.embed(script_tokens("ab")); }),
              "the model's states are not finite");
}

// Which the samplers draw, too, where no logit is a number.
TEST(Engine, the_first_token_of_the_vocabulary_is_one_like_others) {
  Scripted scripted({.chain = std::string(">a!b") + script_eos});
  ASSERT_EQ(script_token('!'), 0u);
  EXPECT_EQ(scripted.generate(">").text, "a!b");
  EXPECT_EQ(scripted.generate(">", {.logprobs = 0}).text, "a!b");
  Request held;
  held.constraint = Constraint{Constraint::Kind::regex, "!!!"};
  EXPECT_EQ(scripted.generate(">", held).text, "!!!");
}

TEST(Engine, ignore_eos_goes_on_after_a_stop_token) {
  Scripted scripted({.chain = std::string(">ab") + script_eos + "cd"});
  const Generation g = scripted.generate(">", {.max_tokens = 5, .ignore_eos = true});
  EXPECT_EQ(g.text, "abcd");
  EXPECT_EQ(g.finish, Finish::max_tokens);
}

TEST(Engine, a_stop_string_may_span_tokens_and_none_of_it_is_shown) {
  Scripted scripted({.chain = ">abcdEFGh"});
  Texts texts;
  const Generation g = scripted.generate(">", {.stop = {"EFX", "cdEF"}}, &texts);
  EXPECT_EQ(g.text, "ab");
  EXPECT_EQ(texts, (Texts{"a", "b"}));
  EXPECT_EQ(g.finish, Finish::stop_string);
  EXPECT_EQ(g.tokens, script_tokens("abcdEF"));
}

TEST(Engine, what_turns_out_to_be_no_stop_string_is_shown) {
  Scripted scripted({.chain = ">abcdEFGh"});
  Texts texts;
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 7, .stop = {"cdX"}}, &texts).text, "abcdEFG");
  EXPECT_EQ(texts, (Texts{"a", "b", "cdE", "F", "G"}));
  // The end comes while it may still become one.
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 4, .stop = {"cdX"}}).text, "abcd");
}

TEST(Engine, a_character_of_four_tokens_is_shown_whole) {
  Scripted scripted({.chain = std::string(">a") + smiley + "b" + script_eos});
  Texts texts;
  EXPECT_EQ(scripted.generate(">", {}, &texts).text, std::string("a") + smiley + "b");
  EXPECT_EQ(texts, (Texts{"a", smiley, "b"}));
  // Cut in the middle of it.
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 3}).text, "a\uFFFD");
}

TEST(Engine, a_row_of_the_embedding_that_is_no_token_has_no_text) {
  Scripted scripted({.chain = std::string(">a") + script_unnamed + "b" + script_eos});
  EXPECT_EQ(scripted.generate(">").text, "ab");
  EXPECT_EQ(scripted.generate(std::string(">a") + script_unnamed).text, "b");
}

TEST(Engine, a_full_context_ends_the_text) {
  Scripted scripted({.chain = ">abcdefghijklmnopqrstuvwxyz", .context = 16});
  const Generation g = scripted.generate("12>");
  EXPECT_EQ(g.finish, Finish::context_full);
  EXPECT_EQ(g.text, "abcdefghijklmn");  // the last one stands at no position
  EXPECT_EQ(scripted.generate("12>", {.max_tokens = 14}).finish, Finish::max_tokens);
  EXPECT_EQ(scripted.generate("12>", {.max_tokens = 15}).finish, Finish::context_full);
  EXPECT_EQ(scripted.generate("123456789012345>").text, "a");
}

TEST(Engine, a_prompt_longer_than_the_context_is_refused) {
  Scripted scripted({.chain = ">a", .context = 16});
  const std::string message = message_of<Error>([&] { scripted.generate("1234567890123456>"); });
  EXPECT_SAYS(message, "17 tokens");
  EXPECT_SAYS(message, "holds 16");
}

TEST(Engine, no_tokens_wanted_evaluates_the_prompt_alone) {
  Scripted scripted({.chain = ">abc"});
  Texts texts;
  const Generation g = scripted.generate("12>", {.max_tokens = 0}, &texts);
  EXPECT_EQ(g.prompt_tokens, 3u);
  EXPECT_TRUE(g.tokens.empty());
  EXPECT_TRUE(texts.empty());
  EXPECT_EQ(g.finish, Finish::max_tokens);
}

TEST(Engine, an_empty_prompt_is_refused_unless_the_model_begins_texts_itself) {
  const std::string chain = std::string(1, script_bos) + "ab" + script_eos;
  Scripted without({.chain = chain}), with({.chain = chain, .add_bos = true});
  EXPECT_SAYS(message_of<Error>([&] { without.generate(""); }), "empty");
  EXPECT_TRUE(without.engine.encode("").empty());
  EXPECT_EQ(with.engine.generate(with.engine.encode(""), {.sampling = {.temperature = 0}}).text,
            "ab");
}

TEST(Engine, what_makes_no_sense_is_refused) {
  Scripted scripted({.chain = ">a"});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const Sampling senseless[] = {{.temperature = -1},
                                {.temperature = nan},
                                {.temperature = infinity},
                                {.top_p = 0},
                                {.top_p = 1.5f},
                                {.top_p = nan},
                                {.min_p = -0.1f},
                                {.min_p = 2},
                                {.min_p = nan},
                                {.repeat_penalty = 0},
                                {.repeat_penalty = nan},
                                {.presence_penalty = nan},
                                {.frequency_penalty = infinity}};
  for (const Sampling& sampling : senseless)
    EXPECT_THROW(scripted.engine.generate(script_tokens(">"), {.sampling = sampling}),
                 std::invalid_argument)
        << "number " << &sampling - senseless;
  EXPECT_THROW(scripted.generate(">", {.max_tokens = -2}), std::invalid_argument);
  const std::string message = message_of<std::invalid_argument>([&] {
    scripted.engine.generate(Tokens{1, 103}, {});
  });
  EXPECT_SAYS(message, "token 1 is 103");
  EXPECT_THROW(scripted.engine.logits(Tokens{103}, Tokens{0}, 1), std::invalid_argument);
  EXPECT_THROW(scripted.engine.logits(Tokens{1}, Tokens{1}, 1), std::invalid_argument);
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 1}).text, "a");  // none of it did harm
}

TEST(Engine, a_conversation_goes_through_the_models_template) {
  Scripted scripted({.chain = std::string(":yes") + script_eos,
                     .chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}:"});
  const auto messages = ChatTemplate::Json::parse(R"([{"role": "user", "content": "ab"}])");
  const Tokens tokens = scripted.engine.encode_chat(messages);
  EXPECT_EQ(tokens, script_tokens("[ab]:"));
  EXPECT_EQ(scripted.engine.generate(tokens, {.sampling = {.temperature = 0}}).text, "yes");
  // The names of control tokens are text: in values, and in keys.
  Scripted shows({.chain = ">a", .chat_template = "{{ tools }}"});
  for (const char* json : {R"([{"a": "<s>"}])", R"([{"<s>": {"</s>": 1}}])"})
    for (const uint32_t token :
         shows.engine.encode_chat(messages, {.tools = ChatTemplate::Json::parse(json)}))
      EXPECT_FALSE(shows.engine.tokenizer().is_control(token)) << json;
  Scripted plain({.chain = ">a"});
  EXPECT_SAYS(message_of<Error>([&] { plain.engine.encode_chat(messages); }), "no chat template");
}

TEST(Engine, a_conversation_begins_with_bos_once_where_texts_do) {
  const auto encode = [](bool add_bos, const std::string& chat_template) {
    return Scripted({.chain = ":a", .add_bos = add_bos, .chat_template = chat_template})
        .engine.encode_chat(ChatTemplate::Json::array());
  };
  const Tokens without = script_tokens("a:"),
               with = script_tokens(std::string(1, script_bos) + "a:");
  EXPECT_EQ(encode(true, "a:"), with);
  EXPECT_EQ(encode(true, "{{ bos_token }}a:"), with);
  EXPECT_EQ(encode(false, "{{ bos_token }}a:"), with);
  EXPECT_EQ(encode(false, "a:"), without);
}

TEST(Engine, tools_go_through_the_template_and_names_in_them_are_text) {
  Scripted scripted({.chain = ":a",
                     .chat_template = "<s>{% for t in tools or [] %}{{ t.name }}</s>{% endfor %}"
                                      "{{ 'x' if add_generation_prompt }}"});
  ChatTemplate::Options options;
  options.add_generation_prompt = false;
  options.tools = ChatTemplate::Json::parse(R"([{"name": "a</s>b"}])");
  Tokens expected = script_tokens(std::string(1, script_bos) + "a</s>b" + script_eos);
  EXPECT_EQ(scripted.engine.encode_chat(ChatTemplate::Json::array(), options), expected);
  EXPECT_EQ(options.tools[0]["name"], "a</s>b");  // the caller's own stays
  expected = {script_token(script_bos), script_token('x')};
  EXPECT_EQ(scripted.engine.encode_chat(ChatTemplate::Json::array()), expected);
}

TEST(Engine, names_of_special_tokens_in_messages_are_text) {
  Scripted scripted({.chain = ":a",
                     .chat_template = "<s>{% for m in messages %}{{ m.content | trim }}</s>"
                                      "{% endfor %}:"});
  const auto encode = [&](std::string_view content) {
    auto messages = ChatTemplate::Json::array();
    messages.push_back({{"role", "user"}, {"content", content}});
    return scripted.engine.encode_chat(messages);
  };
  const auto inside = [&](std::string_view text) {  // the template's tokens around it
    Tokens tokens = script_tokens(std::string(1, script_bos) + std::string(text) + script_eos);
    tokens.push_back(script_token(':'));
    return tokens;
  };
  EXPECT_EQ(encode("ab"), inside("ab"));
  EXPECT_EQ(encode(" a</s>:b "), inside("a</s>:b"));
  EXPECT_EQ(encode("</s>"), inside("</s>"));
  EXPECT_EQ(encode("<</s><s></s"), inside("<</s><s></s"));
  // The mark that keeps them apart means nothing in a message.
  EXPECT_EQ(encode("<\uFDD0/s>"), encode("<\uFFFD/s>"));
}

TEST(Engine, an_exception_of_the_callers_ends_one_generation_only) {
  Scripted scripted({.chain = std::string(">abcdef") + script_eos});
  const auto interrupt = [](std::string_view) -> bool { throw std::runtime_error("mine"); };
  EXPECT_EQ(message_of<std::runtime_error>([&] {
              scripted.engine.generate(script_tokens(">"), {.sampling = {.temperature = 0}},
                                       interrupt);
            }),
            "mine");
  EXPECT_EQ(scripted.generate(">").text, "abcdef");
}

TEST(Engine, the_same_seed_draws_the_same_tokens_and_another_seed_others) {
  Scripted scripted({.chain = ">abc", .confidence = 2});
  const auto draw = [&](uint32_t seed) {
    const Request request{
        .sampling = {.top_k = 0, .min_p = 0, .seed = seed}, .max_tokens = 40, .ignore_eos = true};
    return scripted.engine.generate(script_tokens(">"), request).tokens;
  };
  const Tokens seven = draw(7);
  EXPECT_EQ(draw(7), seven);
  EXPECT_NE(draw(8), seven);
  EXPECT_EQ(draw(7), seven);
}

Constraint regex(std::string text) { return {Constraint::Kind::regex, std::move(text)}; }

TEST(Guided, a_bias_forces_and_forbids_tokens) {
  Scripted scripted({.chain = ">abcd"});
  const uint32_t a = script_token('a'), z = script_token('z');
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 3, .logit_bias = {{z, 30.f}}}).text, "zzz");
  // After '>' all but 'a' are as likely; of these '!' comes first, and follows itself.
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 2, .logit_bias = {{a, -100.f}}}).text, "!!");
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 2, .logit_bias = {{a, -100.f}, {z, 1.f}}}).text,
            "zz");
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 3}).text, "abc");  // another generation
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const Request request{.sampling = {.temperature = 1.5f, .top_k = 0, .min_p = 0, .seed = seed},
                          .max_tokens = 5,
                          .ignore_eos = true,
                          .logit_bias = {{a, -1e30f}, {z, -3e38f}}};
    for (const uint32_t token : scripted.engine.generate(script_tokens(">>"), request).tokens) {
      EXPECT_NE(token, a);
      EXPECT_NE(token, z);
    }
  }
}

TEST(Guided, logprobs_are_the_models_own_whatever_tokens_are_drawn_by) {
  constexpr float confidence = 3;
  Scripted scripted({.chain = std::string(">ab") + script_eos, .confidence = confidence});
  const double norm = std::log(std::exp(confidence) + 102);
  std::vector<std::string> order;
  Request request{.logprobs = 3};
  request.on_report = [&](const TokenReport& report) { order.push_back(report.drawn.bytes); };
  request.sampling.temperature = 0;
  const Generation g =
      scripted.engine.generate(script_tokens(">"), request, [&](std::string_view text) {
        order.push_back("text " + std::string(text));
        return true;
      });
  EXPECT_EQ(order, (Texts{"a", "text a", "b", "text b", "</s>"}));
  ASSERT_EQ(g.reports.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const TokenReport& report = g.reports[i];
    EXPECT_EQ(report.drawn.token, g.tokens[i]);
    EXPECT_NEAR(report.drawn.logprob, confidence - norm, 1e-4);
    ASSERT_EQ(report.likeliest.size(), 3u);
    EXPECT_EQ(report.likeliest[0].token, g.tokens[i]);
    EXPECT_EQ(report.likeliest[0].logprob, report.drawn.logprob);
    for (const uint32_t other : {0u, 1u}) {  // of equals, the first
      EXPECT_EQ(report.likeliest[1 + other].token, other);
      EXPECT_EQ(report.likeliest[1 + other].bytes, std::string(1, char('!' + other)));
      EXPECT_NEAR(report.likeliest[1 + other].logprob, -norm, 1e-4);
    }
  }

  // With all that changes what is drawn.
  const Request bent{.sampling = {.temperature = 0.5f, .top_k = 1, .repeat_penalty = 1.5f},
                     .max_tokens = 2,
                     .constraint = regex("[x-z]+"),
                     .logit_bias = {{script_token('y'), 5.f}},
                     .logprobs = 0};
  const Generation other = scripted.engine.generate(script_tokens(">"), bent);
  EXPECT_EQ(other.text, "yy");
  ASSERT_EQ(other.reports.size(), 2u);
  EXPECT_NEAR(other.reports[0].drawn.logprob, -norm, 1e-4);
  EXPECT_NEAR(other.reports[1].drawn.logprob, confidence - norm, 1e-4);  // 'y' follows 'y'
  EXPECT_TRUE(other.reports[0].likeliest.empty());

  EXPECT_TRUE(scripted.generate(">").reports.empty());
}

TEST(Guided, a_row_that_is_no_token_has_a_report_without_bytes) {
  Scripted scripted({.chain = std::string(">a") + script_unnamed + script_eos});
  const Generation g = scripted.generate(">", {.logprobs = 20});
  ASSERT_EQ(g.reports.size(), 3u);
  EXPECT_EQ(g.reports[1].drawn.token, script_token(script_unnamed));
  EXPECT_EQ(g.reports[1].drawn.bytes, "");
  EXPECT_EQ(g.reports[1].likeliest.size(), 20u);
}

TEST(Guided, a_constraint_holds_against_a_model_that_wants_otherwise) {
  Scripted scripted({.chain = std::string(">abc") + script_unnamed + script_eos});
  const Generation g = scripted.generate(">", {.constraint = regex("[x-z]{3}")});
  EXPECT_EQ(g.text, "xxx");
  EXPECT_EQ(g.finish, Finish::stop_token);
  EXPECT_EQ(g.tokens, script_tokens("xxx"));  // no stop token: nothing else could follow
  // Of what is allowed the likeliest: 'b' follows 'a'.
  EXPECT_EQ(scripted.generate(">", {.constraint = regex("[a-f]{2}[d-f]")}).text, "abd");

  std::set<std::string> texts;
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const Sampling samplings[] = {{.temperature = 2, .top_k = 0, .top_p = 1, .min_p = 0},
                                  {.top_k = 3, .repeat_penalty = 1.3f},
                                  {.temperature = 1, .top_k = 0, .top_p = 0.3f}};
    Request request{.sampling = samplings[seed % 3], .constraint = regex("[x-z]{3}-[0-9]")};
    request.sampling.seed = seed;
    const Generation drawn = scripted.engine.generate(script_tokens(">"), request);
    texts.insert(drawn.text);
    ASSERT_EQ(drawn.text.size(), 5u);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(drawn.text[i] >= 'x' && drawn.text[i] <= 'z');
    EXPECT_EQ(drawn.text[3], '-');
    EXPECT_TRUE(drawn.text[4] >= '0' && drawn.text[4] <= '9');
    EXPECT_EQ(drawn.finish, Finish::stop_token);
  }
  EXPECT_GT(texts.size(), 5u);
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 3}).text, "abc");
}

TEST(Guided, every_kind_of_constraint_gives_what_it_says) {
  Scripted scripted({.chain = ">abc", .confidence = 1, .context = 400});
  const Constraint schema{Constraint::Kind::json_schema,
                          R"({"type": "object", "required": ["n", "s"],
                              "additionalProperties": false, "properties": {
                              "n": {"type": "integer", "minimum": 0, "maximum": 999},
                              "s": {"type": "string", "maxLength": 9}}})"};
  const auto draw = [&](const Constraint& constraint, uint32_t seed) {
    return scripted.engine.generate(
        script_tokens(">"),
        {.sampling = {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = seed},
         .constraint = constraint});
  };
  for (uint32_t seed = 0; seed < 5; ++seed) {
    const auto json = nlohmann::json::parse(draw(schema, seed).text);
    EXPECT_TRUE(json.at("n").is_number_integer()) << json;
    EXPECT_TRUE(json.at("s").is_string()) << json;
    EXPECT_EQ(json.size(), 2u);
    const Generation any = draw({.kind = Constraint::Kind::json_object}, seed);
    if (any.finish == Finish::stop_token) {
      try {
        EXPECT_TRUE(nlohmann::json::parse(any.text).is_object()) << any.text;
      } catch (const nlohmann::json::out_of_range&) {  // a number like 1e9662
      }
    }
    EXPECT_TRUE(any.text.starts_with("{")) << any.text;
    const std::string nested =
        draw({Constraint::Kind::lark, "start: \"(\" start \")\" | \"x\""}, seed).text;
    const size_t depth = nested.find('x');
    EXPECT_EQ(nested, std::string(depth, '(') + "x" + std::string(depth, ')'));
  }
}

TEST(Guided, a_model_may_stop_where_its_grammar_may_end_and_nowhere_else) {
  Scripted scripted({.chain = std::string(">ab") + script_eos});
  const Generation g = scripted.generate(">", {.constraint = regex("[a-z]+")});
  EXPECT_EQ(g.text, "ab");
  EXPECT_EQ(g.finish, Finish::stop_token);
  EXPECT_EQ(g.tokens, script_tokens(std::string("ab") + script_eos));
  EXPECT_EQ(scripted.generate(">", {.constraint = regex("[a-z]{4}")}).text, "abab");
  const Generation on =
      scripted.generate(">", {.max_tokens = 6, .ignore_eos = true, .constraint = regex("[a-z]+")});
  EXPECT_EQ(on.text, "ababab");
  EXPECT_EQ(on.finish, Finish::max_tokens);

  const Generation nothing = scripted.generate(">", {.constraint = regex("")});
  EXPECT_EQ(nothing.finish, Finish::stop_token);
  EXPECT_TRUE(nothing.tokens.empty());
}

TEST(Guided, characters_of_several_tokens_come_whole) {
  Scripted scripted({.chain = ">abc"});
  Texts texts;
  const Generation g =
      scripted.generate(">", {.constraint = regex(std::string("x") + smiley + "?")}, &texts);
  EXPECT_EQ(g.text, std::string("x") + smiley);  // its first byte comes before </s>
  EXPECT_EQ(texts, (Texts{"x", smiley}));
}

TEST(Guided, limits_and_stop_strings_count_as_ever) {
  Scripted scripted({.chain = ">abcd", .context = 16});
  const auto ten = regex("[a-c]{10}");
  Generation g = scripted.generate(">", {.max_tokens = 4, .constraint = ten});
  EXPECT_EQ(g.text, "abca");
  EXPECT_EQ(g.finish, Finish::max_tokens);
  g = scripted.generate(">", {.max_tokens = 10, .constraint = ten});
  EXPECT_EQ(g.text.size(), 10u);
  EXPECT_EQ(g.finish, Finish::stop_token);
  g = scripted.generate("1234567>", {.constraint = ten});
  EXPECT_EQ(g.text.size(), 9u);
  EXPECT_EQ(g.finish, Finish::context_full);
  g = scripted.generate(">", {.stop = {"ca"}, .constraint = ten});
  EXPECT_EQ(g.text, "ab");
  EXPECT_EQ(g.finish, Finish::stop_string);
  size_t count = 0;
  g = scripted.engine.generate(script_tokens(">"),
                               {.sampling = {.temperature = 0}, .constraint = ten}, {},
                               [&] { return ++count < 4; });
  EXPECT_EQ(g.finish, Finish::cancelled);
  EXPECT_EQ(g.tokens.size(), 4u);
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 0, .constraint = ten}).finish,
            Finish::max_tokens);
}

TEST(Guided, a_constraint_may_begin_at_a_text) {
  // Free, it counts to f and begins again.
  Scripted scripted({.chain = ">0123456789abcdef0", .context = 256});
  const auto from = [](std::string form, std::string text, bool first = false) {
    Constraint constraint = regex(std::move(form));
    constraint.from = std::move(text), constraint.from_first = first;
    return constraint;
  };
  // From there on, that text included; steps that ran ahead without it are taken again.
  EXPECT_EQ(scripted.generate(">", {.constraint = from("345[x-z]{2}", "345")}).text, "012345xx");
  EXPECT_EQ(scripted.generate(">", {.constraint = from("0x", "0")}).text, "0x");
  const Generation g = scripted.generate(">", {.constraint = from("9[0-9]", "9"), .logprobs = 0});
  EXPECT_EQ(g.text, "01234567890");
  EXPECT_EQ(g.finish, Finish::stop_token);
  EXPECT_EQ(g.reports.size(), g.tokens.size());
  // The cache is right behind it: the same tokens as a prompt, and what follows.
  std::vector<uint32_t> prompt = script_tokens(">");
  prompt.insert(prompt.end(), g.tokens.begin(), g.tokens.end());
  const Generation on =
      scripted.engine.generate(prompt, {.sampling = {.temperature = 0}, .max_tokens = 3});
  EXPECT_EQ(on.text, "123");
  EXPECT_GE(on.cached_tokens + 2, on.prompt_tokens);
  // With a bias, which holds on; a stop string across the two; the limit.
  EXPECT_EQ(scripted
                .generate(">", {.constraint = from("2[xy]", "2"),
                                .logit_bias = {{script_token('y'), 5.f}}})
                .text,
            "012y");
  EXPECT_EQ(scripted.generate(">", {.stop = {"2x"}, .constraint = from("2[xy]", "2")}).text, "01");
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 4, .constraint = from("2[xy]{9}", "2")}).text,
            "012x");
  EXPECT_EQ(scripted.generate(">", {.max_tokens = 3, .constraint = from("2[xy]{9}", "2")}).text,
            "012");
  // It never comes, or not at the beginning, or goes on otherwise.
  for (const Constraint& other :
       {from("x", "x"), from("12x", "12", true), from("y", "2"), from("2y", "2", true)})
    EXPECT_EQ(scripted.generate(">", {.max_tokens = 6, .constraint = other}).text, "012345");
  EXPECT_EQ(scripted.generate(">", {.constraint = from("01z", "01", true)}).text, "01z");
}

TEST(Guided, a_special_token_may_begin_a_constraint_and_shows) {
  Scripted scripted({.chain = std::string(">a") + script_bos + "bc"});
  Constraint constraint = regex("<s>[x-z]");
  constraint.from = "<s>";
  EXPECT_EQ(scripted.generate(">", {.constraint = constraint}).text, "a<s>x");
  const Generation free = scripted.generate(">", {.max_tokens = 3, .logprobs = 0});
  EXPECT_EQ(free.text, "ab");  // else it is no text
  EXPECT_EQ(free.reports[1].drawn.bytes, "<s>");
  EXPECT_EQ(free.reports[1].hidden, 3u);
  EXPECT_EQ(free.reports[2].hidden, 0u);
}

TEST(Guided, a_lark_grammar_names_schemas) {
  Scripted scripted({.chain = ">ab", .context = 256});
  Constraint constraint{Constraint::Kind::lark, "start: \"<\" schema_0 \"|\" schema_1 \">\""};
  constraint.schemas = {R"({"enum": ["a\nb"]})",
                        R"({"type": "integer", "multipleOf": 5, "minimum": 9,
                                                         "maximum": 11})"};
  EXPECT_EQ(scripted.generate(">", {.constraint = constraint}).text, "<\"a\\nb\"|10>");
  constraint.schemas[1] = R"({"multipleOf": 1000003})";
  EXPECT_SAYS(message_of<Error>([&] { scripted.generate(">", {.constraint = constraint}); }),
              "schema_1: multipleOf");
  constraint.schemas[1] = R"({"enum": [1], "not": {}})";
  EXPECT_SAYS(message_of<Error>([&] { scripted.generate(">", {.constraint = constraint}); }),
              "not");
  constraint.schemas[1] = R"({"enum": [1], "not": {}, "x-guidance": {"lenient": true}})";
  EXPECT_EQ(scripted.generate(">", {.constraint = constraint}).text, "<\"a\\nb\"|1>");
}

TEST(Guided, what_cannot_be_held_is_an_error_and_the_engine_goes_on) {
  Scripted scripted({.chain = std::string(">abc") + script_eos});
  EXPECT_SAYS(message_of<GrammarError>([&] {
                scripted.generate(">", {.constraint = Constraint{Constraint::Kind::json_schema,
                                                                 R"({"type": "strnig"})"}});
              }),
              "the JSON schema cannot be used");
  EXPECT_SAYS(message_of<GrammarError>([&] { scripted.generate(">", {.constraint = regex("(")}); }),
              "the regular expression cannot be used");
  // No token has a byte of that letter: in mid-generation, with logits on their way.
  EXPECT_SAYS(message_of<GrammarError>([&] {
                scripted.generate(">", {.constraint = regex("ab\u00e9"), .logprobs = 1});
              }),
              "no token of the vocabulary can follow");
  EXPECT_EQ(scripted.generate(">").text, "abc");
  for (const Request& senseless :
       {Request{.logprobs = 21}, Request{.logprobs = -2}, Request{.logit_bias = {{103u, 1.f}}},
        Request{.logit_bias = {{1u, std::nanf("")}}}, Request{.logit_bias = {{1u, -INFINITY}}}})
    EXPECT_THROW(scripted.generate(">", senseless), std::invalid_argument);
  EXPECT_EQ(scripted.generate(">").text, "abc");
}

TEST(Engine, a_lost_device_in_mid_stream_is_one_error) {
  Scripted scripted({.chain = ">a"});
  size_t tokens = 0;
  const auto lose = [&] {
    if (++tokens == 5) scripted.engine.device().destroy();
    return true;
  };
  const std::string message = message_of<Error>([&] {
    scripted.engine.generate(script_tokens(">"), {.sampling = {.temperature = 0}}, {}, lose);
  });
  EXPECT_SAYS(message, "lost");
  EXPECT_EQ(tokens, 5u);
  EXPECT_THROW(scripted.generate(">"), Error);
}

TEST(Engine, a_missing_or_foreign_file_is_an_error_that_names_it) {
  EXPECT_SAYS(message_of<Error>([] { Engine(EngineOptions{.model = "no/such.gguf"}); }),
              "no/such.gguf");
  const TemporaryFile file("not a model");
  EXPECT_SAYS(message_of<Error>([&] { Engine(EngineOptions{.model = file.path()}); }),
              file.path().string());
}

TEST(Engine, numbers_of_a_file_that_make_no_sense_are_errors_that_name_it) {
  for (const auto& [scaling, what] : {std::pair("linear 0", "the scaling factor is 0"),
                                      {"linear nan", "the scaling factor is nan"},
                                      {"yarn 2", "the original context is 0"}}) {
    const TemporaryFile file(scripted_model({.chain = "a", .rope_scaling = scaling}));
    const std::string message =
        message_of<Error>([&] { Engine(EngineOptions{.model = file.path()}); });
    EXPECT_SAYS(message, what);
    EXPECT_SAYS(message, file.path().string());
  }
}

TEST(Engine, a_context_beyond_a_binding_is_refused_with_the_most) {
  const TemporaryFile file(scripted_model({.chain = "a"}));
  EXPECT_SAYS(message_of<Error>([&] {
                Engine(EngineOptions{.model = file.path(), .options = {.context = 1u << 31}});
              }),
              "(-c)");
}

TEST(Engine, a_cache_of_q8_0_is_refused_where_heads_are_no_whole_blocks) {
  const auto path = std::filesystem::path(MS_SOURCE_DIR) / "tests/golden/hf-gemma3";
  const std::string message = message_of<Error>(
      [&] { Engine(EngineOptions{.model = path, .options = {.kv_type = KvType::q8_0}}); });
  EXPECT_SAYS(message, path.string());
  EXPECT_SAYS(message, "no whole blocks of 32: no KV cache of q8_0 (-ctk)");
}

TEST(Engine, layers_that_see_a_window_go_on_from_the_cache_as_others_do) {
  Engine engine(
      EngineOptions{.model = std::filesystem::path(MS_SOURCE_DIR) / "tests/golden/hf-gemma3",
                    .options = {.kv_type = KvType::f32}});
  const Request request{.sampling = {.temperature = 0}, .max_tokens = 8};
  Tokens prompt;
  for (uint32_t i = 0; i < 20; ++i) prompt.push_back(i * 37 % 128);
  for (int turn = 0; turn < 3; ++turn) {  // each beyond a window of 10
    const Generation g = engine.generate(prompt, request);
    EXPECT_EQ(g.cached_tokens, turn ? prompt.size() - 3 : 0u);
    Tokens next = prompt;
    next.insert(next.end(), g.tokens.begin(), g.tokens.end());
    next.insert(next.end(), {5, 6});
    engine.write_slot({});  // forgets
    EXPECT_EQ(engine.generate(prompt, request).tokens, g.tokens) << "turn " << turn;
    prompt = next;
  }
}

// The built-in model, or nothing where it isn't.
std::filesystem::path tales() {
  const auto built_in = std::filesystem::path(MS_SOURCE_DIR) / "models/tales-31m-q8_0.gguf";
  const auto shared = shared_folder() / "models/tales-31m/tales-31m-q8_0.gguf";
  return exists(built_in) ? built_in : exists(shared) ? shared : "";
}

class RealModel : public testing::Test {
 protected:
  void SetUp() override {
    if (tales().empty())
      GTEST_SKIP() << "there is no tales-31m-q8_0.gguf in models/ or " << shared_folder();
    load({});
  }
  void load(const ModelOptions& options) {
    engine_ = std::make_unique<Engine>(EngineOptions{.model = tales(), .options = options});
    prompt_ = engine_->encode("Once upon a time there was a little fox who");
  }
  Tokens draw(const Sampling& sampling, int64_t count = 24) {
    return engine_
        ->generate(prompt_, {.sampling = sampling, .max_tokens = count, .ignore_eos = true})
        .tokens;
  }

  std::unique_ptr<Engine> engine_;
  Tokens prompt_;
};

TEST_F(RealModel, greedy_tokens_are_the_likeliest_however_they_are_drawn) {
  const Tokens greedy = draw({.temperature = 0});
  EXPECT_EQ(draw({.temperature = 0, .presence_penalty = 1e-30f}), greedy);  // through sample_topk
  EXPECT_EQ(draw({.temperature = 1, .top_k = 1}), greedy);

  Tokens sequence = prompt_;
  sequence.insert(sequence.end(), greedy.begin(), greedy.end() - 1);
  Tokens rows(greedy.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = uint32_t(prompt_.size() - 1 + i);
  const std::vector<float> logits = engine_->logits(sequence, rows, 1);
  const size_t vocab = logits.size() / rows.size();
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = logits.begin() + std::ptrdiff_t(i * vocab);
    EXPECT_EQ(greedy[i], uint32_t(std::max_element(row, row + std::ptrdiff_t(vocab)) - row))
        << "token " << i;
  }
}

TEST_F(RealModel, seeds_repeat_and_differ) {
  const Tokens seven = draw({.seed = 7});
  EXPECT_EQ(draw({.seed = 7}), seven);
  EXPECT_NE(draw({.seed = 8}), seven);
}

TEST_F(RealModel, a_generation_after_a_cancelled_one_is_as_a_fresh_one) {
  const Tokens fresh = draw({.repeat_penalty = 1.1f, .seed = 3});
  size_t count = 0;
  const Request other{.sampling = {.seed = 9}, .ignore_eos = true};
  const Generation cancelled = engine_->generate(engine_->encode("The ship sailed"), other, {},
                                                 [&] { return ++count < 10; });
  EXPECT_EQ(cancelled.finish, Finish::cancelled);
  EXPECT_EQ(cancelled.tokens.size(), 9u);
  EXPECT_EQ(draw({.repeat_penalty = 1.1f, .seed = 3}), fresh);
}

TEST_F(RealModel, a_prompt_may_be_cancelled_after_each_batch) {
  load({.batch = 4});
  size_t asked = 0;
  const Generation cancelled = engine_->generate(prompt_, {}, {}, [&] { return ++asked < 2; });
  EXPECT_EQ(cancelled.finish, Finish::cancelled);
  EXPECT_EQ(asked, 2u);
  EXPECT_TRUE(cancelled.tokens.empty());
}

TEST_F(RealModel, a_prompt_in_small_batches_continues_as_in_one) {
  const Tokens whole = draw({.temperature = 0});
  load({.batch = 4});
  EXPECT_EQ(draw({.temperature = 0}), whole);
}

std::vector<float> last_logits(Engine& engine) {
  const gpu::View view = engine.model().logits();
  std::vector<float> logits(engine.model().config().vocab);
  const auto bytes = engine.device().read(*view.buffer, view.offset, logits.size() * sizeof(float));
  std::memcpy(logits.data(), bytes.data(), bytes.size());
  return logits;
}

TEST_F(RealModel, turns_evaluate_what_is_new_alone_and_say_the_same) {
  Engine other(EngineOptions{.model = tales(), .options = {}});
  const Request request{.sampling = {.temperature = 0}, .max_tokens = 8, .ignore_eos = true};
  const Tokens more = engine_->encode(", and then the fox said");
  for (int turn = 0; turn < 30; ++turn) {
    const Generation g = engine_->generate(prompt_, request);
    if (turn % 10 == 9) {
      other.write_slot({});  // forgets
      const Generation fresh = other.generate(prompt_, request);
      EXPECT_EQ(fresh.cached_tokens, 0u);
      EXPECT_EQ(g.tokens, fresh.tokens) << "turn " << turn;
      // The last step's logits: what steps put into the cache differs from a batch's in rounding.
      const std::vector<float> a = last_logits(*engine_), b = last_logits(other);
      EXPECT_LT(nmse(a, b), 1e-5) << "turn " << turn;
    }
    // The last token before was drawn, and not evaluated.
    if (turn > 0) {
      EXPECT_EQ(g.prompt_tokens - g.cached_tokens, 1 + more.size()) << "turn " << turn;
    }
    prompt_.insert(prompt_.end(), g.tokens.begin(), g.tokens.end());
    prompt_.insert(prompt_.end(), more.begin(), more.end());
  }
}

TEST_F(RealModel, whatever_ended_a_generation_the_next_goes_on_from_what_was_evaluated) {
  const Request request{.sampling = {.temperature = 0}, .max_tokens = 12, .ignore_eos = true};
  const Tokens whole = engine_->generate(prompt_, request).tokens;
  Tokens longer = prompt_;
  longer.insert(longer.end(), whole.begin(), whole.begin() + 6);
  const Tokens tail(whole.begin() + 6, whole.end());
  Tokens other = longer;
  other.back() = other.front();
  const Tokens other_tail = engine_->generate(other, request).tokens;
  const auto again = [&](uint32_t cached) {
    Request rest = request;
    rest.max_tokens = int64_t(tail.size());
    const Generation g = engine_->generate(longer, rest);
    EXPECT_EQ(g.tokens, tail);
    EXPECT_EQ(g.cached_tokens, cached);
    const Generation second = engine_->generate(other, request);
    EXPECT_EQ(second.tokens, other_tail);
    EXPECT_EQ(second.cached_tokens, other.size() - 1);
  };
  const uint32_t all = uint32_t(longer.size()) - 1, before = uint32_t(prompt_.size());

  engine_->write_slot({});
  size_t count = 0;  // the prompt, then three tokens, the last of which was not evaluated
  engine_->generate(prompt_, request, {}, [&] { return ++count < 4; });
  again(before + 2);

  engine_->write_slot({});
  Request stopping = request;  // after steps beyond the stop string, which others would follow
  stopping.stop = {engine_->tokenizer().decode(std::span(whole).subspan(4, 1), false)};
  EXPECT_EQ(engine_->generate(prompt_, stopping).finish, Finish::stop_string);
  again(before + 4);

  engine_->write_slot({});
  EXPECT_THROW(
      engine_->generate(prompt_, request,
                        [](std::string_view) -> bool { throw std::runtime_error("mine"); }),
      std::runtime_error);
  again(before);

  engine_->write_slot({});
  Request none = request;
  none.max_tokens = 0;
  engine_->generate(prompt_, none);
  again(before - 1);

  Tokens much = longer;
  much.insert(much.end(), prompt_.begin(), prompt_.end());
  engine_->generate(much, request);
  again(all);

  engine_->logits(much, Tokens{0}, 1);
  again(0);
}

TEST_F(RealModel, a_prompt_that_was_cancelled_counts_as_far_as_it_came) {
  const Tokens fresh = draw({.temperature = 0});
  load({.batch = 4});
  size_t asked = 0;
  engine_->generate(prompt_, {}, {}, [&] { return ++asked < 2; });
  const Generation g = engine_->generate(
      prompt_, {.sampling = {.temperature = 0}, .max_tokens = 24, .ignore_eos = true});
  EXPECT_EQ(g.cached_tokens, 8u);
  EXPECT_EQ(g.tokens, fresh);
}

TEST_F(RealModel, a_guided_generation_without_a_guide_draws_the_same_tokens) {
  const Sampling samplings[] = {{.temperature = 0},
                                {.seed = 5},
                                {.top_k = 0, .top_p = 0.9f, .repeat_penalty = 1.2f, .seed = 6}};
  for (const Sampling& sampling : samplings) {
    const Tokens tokens = draw(sampling);
    engine_->write_slot({});
    const Generation guided = engine_->generate(
        prompt_, {.sampling = sampling, .max_tokens = 24, .ignore_eos = true, .logprobs = 2});
    EXPECT_EQ(guided.tokens, tokens);
    Tokens sequence = prompt_, rows(tokens.size());
    sequence.insert(sequence.end(), tokens.begin(), tokens.end() - 1);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = uint32_t(prompt_.size() - 1 + i);
    const std::vector<float> logits = engine_->logits(sequence, rows, 1);
    const size_t vocab = logits.size() / rows.size();
    ASSERT_EQ(guided.reports.size(), tokens.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      double sum = 0;
      for (size_t id = 0; id < vocab; ++id) sum += std::exp(double(logits[i * vocab + id]));
      EXPECT_NEAR(guided.reports[i].drawn.logprob, logits[i * vocab + tokens[i]] - std::log(sum),
                  0.02);  // the prompt by other kernels
    }
  }
}

TEST_F(RealModel, after_a_guided_generation_the_next_goes_on_from_what_was_evaluated) {
  const Request plain{.sampling = {.temperature = 0}, .max_tokens = 12, .ignore_eos = true};
  Request guided = plain;
  guided.constraint = {Constraint::Kind::regex, "[a-z ]*"};
  const Generation g = engine_->generate(prompt_, guided);
  ASSERT_EQ(g.tokens.size(), 12u);
  EXPECT_EQ(engine_->generate(prompt_, guided).cached_tokens, prompt_.size() - 1);
  Tokens longer = prompt_;
  longer.insert(longer.end(), g.tokens.begin(), g.tokens.end());
  const Generation next = engine_->generate(longer, plain);
  EXPECT_EQ(next.cached_tokens, longer.size() - 1);
  engine_->write_slot({});
  EXPECT_EQ(engine_->generate(longer, plain).tokens, next.tokens);
}

TEST_F(RealModel, a_step_makes_no_buffer_or_bind_group_and_waits_for_its_token_alone) {
  std::vector<gpu::Counts> counts;
  const auto keep = [&] {
    counts.push_back(engine_->device().counts());
    return true;
  };
  for (const float temperature : {0.0f, 0.8f}) {
    counts.clear();
    engine_->write_slot({});
    engine_->generate(
        prompt_, {.sampling = {.temperature = temperature}, .max_tokens = 32, .ignore_eos = true},
        {}, keep);
    ASSERT_EQ(counts.size(), 33u);                               // the prompt, then each token
    const gpu::Counts &before = counts[9], &after = counts[25];  // beyond the first steps ahead
    EXPECT_EQ(after.buffers, before.buffers);
    EXPECT_EQ(after.bind_groups, before.bind_groups);
    EXPECT_EQ(after.buffer_writes, before.buffer_writes);
    EXPECT_EQ(after.pipelines, before.pipelines);
    // Fast steps come several a submission.
    EXPECT_LE(after.submits - before.submits, 16u);
    EXPECT_LE(after.waits - before.waits, 16u);
    EXPECT_GE(after.waits - before.waits, 16u / steps_ahead);
  }
}

TEST_F(RealModel, steps_of_one_submission_come_back_one_by_one) {
  const Tokens greedy = draw({.temperature = 0});
  const uint32_t last = uint32_t(prompt_.size()) - 1;
  engine_->write_slot(
      {.token = prompt_.back(), .position = last, .limit = last + 8, .stopped = Stopped::running});
  const gpu::View state = engine_->model().slots().slice(0, {4});
  StepsAhead ahead(engine_->device());
  ahead.submit(engine_->step(true), state, 3);
  ahead.submit(engine_->step(true), state);
  EXPECT_EQ(ahead.fill(engine_->step(true), state, 1), 0u);  // four are enough
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(ahead.size(), 4 - i);
    uint32_t words[4];
    std::memcpy(words, ahead.next().data(), sizeof(words));
    EXPECT_EQ(words[0], greedy[i]);
    EXPECT_EQ(words[1], last + i + 1);
    EXPECT_EQ(Stopped(words[3]), Stopped::running);
  }
  EXPECT_EQ(ahead.fill(engine_->step(true), state, 2), 2u);  // no more than are left
}

// The public interface.
TEST(Library, generates_chats_and_converts_between_text_and_tokens) {
  const TemporaryFile file(scripted_model(
      {.chain = std::string(":yes") + script_eos,
       .context = 32,
       .chat_template = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}:"}));
  EXPECT_SAYS(message_of<std::invalid_argument>(
                  [&] { Model::load({.model = file.path(), .kv_type = "q4_0"}); }),
              "no KV cache of type \"q4_0\": use f16, f32 or q8_0");
  Model model = Model::load({.model = file.path(), .kv_type = "q8_0"});
  EXPECT_EQ(model.context(), 32u);
  EXPECT_EQ(model.tokenize("ab :"), script_tokens("ab :"));
  EXPECT_EQ(model.detokenize(script_tokens(std::string("ab :") + script_eos)), "ab :");
  const Request greedy{.sampling = {.temperature = 0}};
  std::string shown;
  const Generation g = model.generate("no:", greedy, [&](std::string_view text) {
    shown += text;
    return true;
  });
  EXPECT_EQ(shown, "yes");
  EXPECT_EQ(g.text, "yes");
  ASSERT_TRUE(model.has_chat_template());
  const Generation reply = model.chat({{"system", "a"}, {"user", "b"}}, greedy);
  EXPECT_EQ(reply.text, "yes");
  EXPECT_EQ(reply.prompt_tokens, 5u);  // "saub:"
  Request held = greedy;
  held.constraint = {Constraint::Kind::regex, "[xy]{2}"};
  held.logprobs = 1;
  const Generation form = model.generate("no:", held);
  EXPECT_EQ(form.text, "yx");  // 'y' follows ':'; behind it 'x' and 'y' are alike
  EXPECT_EQ(form.reports.at(0).likeliest.at(0).bytes, "y");
  Model moved = std::move(model);
  EXPECT_EQ(moved.generate("no:", greedy).text, "yes");
  EXPECT_THROW(Model::load({.model = "no/such.gguf"}), std::runtime_error);
}

}  // namespace
}  // namespace ms
