// cli_test.cpp: the mainspring program from outside: exit codes, messages, what goes to which
// stream.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "base/test_files.hpp"
#include "engine/scripted_model.hpp"
#include "text/test_data.hpp"

extern char** environ;

namespace ms {
namespace {

// A running mainspring. Its streams are files.
class Program {
 public:
  // `variables`: NAME=VALUE, in front of the environment. `out`: a descriptor instead of the file.
  explicit Program(std::vector<std::string> arguments, std::string_view input = "",
                   std::vector<std::string> variables = {}, int out = -1)
      : in_(input) {
    arguments.insert(arguments.begin(), MS_PROGRAM);
    for (char** variable = environ; *variable; ++variable)
      if (!std::string_view(*variable).starts_with("MAINSPRING_")) variables.push_back(*variable);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, in_.path().c_str(), O_RDONLY, 0);
    if (out < 0)
      posix_spawn_file_actions_addopen(&actions, 1, out_.path().c_str(), O_WRONLY, 0);
    else
      posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_addopen(&actions, 2, error_.path().c_str(), O_WRONLY, 0);
    const int error = posix_spawn(&pid_, MS_PROGRAM, &actions, nullptr, pointers(arguments).data(),
                                  pointers(variables).data());
    posix_spawn_file_actions_destroy(&actions);
    if (error) fail("cannot run {}: {}", MS_PROGRAM, std::strerror(error));
  }
  ~Program() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  // The exit code; 128 + a signal's number.
  int wait() {
    int status = 0;
    waitpid(std::exchange(pid_, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void interrupt() { kill(pid_, SIGINT); }
  std::string out() const { return read_file(out_.path()); }
  std::string error() const { return read_file(error_.path()); }

 private:
  static std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (std::string& s : strings) result.push_back(s.data());
    result.push_back(nullptr);
    return result;
  }

  TemporaryFile in_, out_, error_;
  pid_t pid_ = 0;
};

struct Result {
  int code;
  std::string out, error;
};

Result run(std::vector<std::string> arguments, std::string_view input = "",
           std::vector<std::string> variables = {}) {
  Program program(std::move(arguments), input, std::move(variables));
  const int code = program.wait();
  return {code, program.out(), program.error()};
}

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

// Says "Helo wrd." to a prompt that ends with '>', and endless 'z' after 'z'.
class Cli : public testing::Test {
 protected:
  Result greedy(std::vector<std::string> arguments, std::string_view input = "") {
    arguments.insert(arguments.begin(), {"run", "-m", model(), "--temp", "0"});
    return run(arguments, input);
  }
  std::string model() const { return file_.path(); }

  TemporaryFile file_{
      scripted_model({.chain = std::string(">Helo wrd.") + script_eos, .context = 64})};
};

TEST_F(Cli, a_prompt_comes_from_the_arguments_from_p_or_from_stdin) {
  for (const Result& result : {greedy({"12", ">"}), greedy({"-p", "12 >"}), greedy({}, "12 >\n"),
                               greedy({"12 >"}, "not read"), greedy({"--raw", "--", "-12>"})}) {
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.out, "Helo wrd.\n");
    EXPECT_EQ(result.error, "");
  }
}

TEST_F(Cli, a_prompt_is_taken_as_it_is) {
  EXPECT_EQ(greedy({"-n", "1", "[1,2]"}).out, "]\n");
  EXPECT_EQ(greedy({"-n", "1", "-p", "[1,2]"}).out, "]\n");
  EXPECT_EQ(greedy({"-n", "1", "--", "-ub"}).out, "b\n");
  EXPECT_EQ(greedy({"-n", "3", ">", "--stop", "[e,l]", "--stop", "el"}).out, "H\n");
}

TEST_F(Cli, a_chat_template_is_used_unless_raw) {
  const TemporaryFile chat(scripted_model(
      {.chain = std::string(":yes") + script_eos,
       .chat_template = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}:"}));
  const auto ask = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"run", "-m", chat.path(), "--temp", "0", "-n", "4", "no"});
    return run(arguments);
  };
  EXPECT_EQ(ask({}).out, "yes\n");
  EXPECT_EQ(ask({"--system", "a"}).out, "yes\n");
  EXPECT_EQ(ask({"--raw"}).out, "oooo\n");
  EXPECT_EQ(ask({"--raw", "--system", "a"}).code, 2);
  EXPECT_SAYS(greedy({"--system", "a", ">"}).error, "no chat template");
}

TEST_F(Cli, a_text_is_held_to_a_schema_a_regex_or_a_grammar) {
  const std::string schema =
      R"({"type": "array", "minItems": 2, "maxItems": 2, "items": {"const": 7}})";
  const TemporaryFile file(schema);
  for (const std::string& given : {schema, "@" + file.path().string()}) {
    const Result result = greedy({"-j", given, ">"});
    EXPECT_EQ(result.code, 0) << result.error;
    EXPECT_EQ(nlohmann::json::parse(result.out), nlohmann::json({7, 7}));
  }
  EXPECT_EQ(greedy({"--regex", "[x-z]{4}", ">"}).out, "xxxx\n");
  EXPECT_EQ(greedy({"--regex", "", ">"}).out, "");
  EXPECT_EQ(greedy({"--lark", "start: \"(\" /[a-z]/ \")\"", ">"}).out, "(a)\n");

  Result result = greedy({"-j", R"({"type": "strnig"})", ">"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_SAYS(result.error, "the JSON schema cannot be used");
  EXPECT_SAYS(result.error, "strnig");
  result = greedy({"--lark", "@no/such.lark", ">"});
  EXPECT_EQ(result.code, 1);
  EXPECT_SAYS(result.error, "no/such.lark cannot be read");
  result = greedy({"--lark", "start: \"a\"", "--regex", "a", ">"});
  EXPECT_EQ(result.code, 2);
  EXPECT_SAYS(result.error, "give one of them");
}

TEST_F(Cli, n_0_evaluates_the_prompt_and_prints_nothing) {
  const Result result = greedy({"-n", "0", "--verbose", "12>"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, "");
  EXPECT_SAYS(result.error, "prompt:     2 tokens");
}

TEST_F(Cli, an_empty_prompt_begins_a_text) {
  const TemporaryFile begins(
      scripted_model({.chain = std::string(1, script_bos) + "ab" + script_eos}));
  EXPECT_EQ(run({"run", "-m", begins.path(), "--temp", "0", "-p", ""}).out, "ab\n");
  EXPECT_EQ(run({"run", "-m", begins.path(), "--temp", "0", ""}).out, "ab\n");
  EXPECT_EQ(run({"run", "-m", begins.path(), "--temp", "0"}, "\n").out, "ab\n");
}

TEST_F(Cli, weights_that_are_no_numbers_exit_with_1) {
  const TemporaryFile broken(scripted_model({.chain = ">ab", .last_norm = NAN}));
  for (const Result& result :
       {run({"run", "-m", broken.path(), ">"}),
        run({"run", "-m", broken.path(), "--temp", "0", "--regex", "a", ">"}),
        run({"embed", "-m", broken.path(), ">"})}) {
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_SAYS(result.error, "are not finite: its weights are broken");
  }
}

TEST_F(Cli, without_a_prompt_nothing_is_continued) {
  for (const Result& result : {greedy({}), greedy({"--raw"})}) {
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_SAYS(result.error, "mainspring: error: there is no prompt, and stdin is empty");
  }
}

TEST_F(Cli, a_full_context_is_told_on_stderr) {
  const Result result = greedy({"-c", "16", "z"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, std::string(16, 'z') + "\n");
  EXPECT_EQ(result.error, "mainspring: context full: 16 tokens, 1 of them the prompt; raise -c\n");
  const Result long_prompt = greedy({"-c", "4", "12345"});
  EXPECT_EQ(long_prompt.code, 1);
  EXPECT_SAYS(long_prompt.error, "5 tokens, the context holds 4");
}

TEST_F(Cli, options_may_come_from_the_environment) {
  const Result result = run({"run", ">"}, "",
                            {"MAINSPRING_MODEL=" + model(), "MAINSPRING_TEMP=0",
                             "MAINSPRING_PREDICT=3", "MAINSPRING_STOP=l", "MAINSPRING_VERBOSE=1"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, "He\n");
  EXPECT_SAYS(result.error, "generation: 3 tokens");
}

TEST_F(Cli, the_last_of_an_option_counts) {
  EXPECT_EQ(run({"run", "-m", "no/such", "-m", model(), "-n", "9", "-n", "2", ">"}).out,
            run({"run", "-m", model(), "-n", "2", ">"}).out);
}

TEST_F(Cli, a_seed_repeats_a_text) {
  const TemporaryFile vague(scripted_model({.chain = ">a", .confidence = 2}));
  const auto draw = [&](const char* seed) {
    return run({"run", "-m", vague.path(), "--top-k", "0", "--min-p", "0", "-n", "40",
                "--ignore-eos", "-s", seed, ">"})
        .out;
  };
  const std::string seven = draw("7");
  EXPECT_EQ(draw("7"), seven);
  EXPECT_NE(draw("8"), seven);
  EXPECT_NE(draw("-1"), draw("-1"));
}

TEST_F(Cli, wrong_uses_exit_with_2) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"nothing"},
      {"run", ">"},  // no model
      {"run", "-m", model(), "--no-such-flag", ">"},
      {"run", "-m", model(), "-hy", ">"},
      {"run", "-hff", model(), ">"},
      {"-hy"},
      {"run", "-m", model(), "-n", "many", ">"},
      {"run", "-m", model(), "-n", "-2", ">"},
      {"run", "-m", model(), "--temp", "-1", ">"},
      {"run", "-m", model(), "--top-p", "1.5", ">"},
      {"run", "-m", model(), "-s", "-2", ">"},
      {"run", "-m", model(), "-ctk", "q4_0", ">"},
      {"run", "-m", model(), "-ctk", "q8_0", "-ctv", "f16", ">"},
      {"run", "-m", model(), "-ub", "0", ">"},
      {"run", "-m", model(), "-p", "a", "b"},
      {"run", "-m", model(), "--tier", "none", ">"},
      {"logits", "-m", model(), "--tokens", "1"},
      {"logits", "-m", model(), "--tokens", "1,x", "--greedy", "1"},
      {"logits", "-m", model(), "--tokens", "5000", "--greedy", "1"},
      {"bench"},
      {"bench", "--synthetic", "llama-8b"},
      {"bench", "--synthetic", "llama-8b:no"},
      {"bench", "--synthetic", "no:q8_0"},
      {"bench", "-m", model(), "-p", "0", "-n", "0"},
      {"bench", "-m", model(), "-n", "4294967295"},
      {"logits", "-m", model(), "--tokens", "1", "--greedy", "4294967295"},
      {"kernels", "--used", model(), "--migration"},
      {"kernels", "--export", "no/such", "--docs"},
  };
  for (const auto& arguments : wrong) {
    const Result result = run(arguments);
    EXPECT_EQ(result.code, 2) << fmt::format("{}", fmt::join(arguments, " "));
    EXPECT_EQ(result.out, "");
    EXPECT_SAYS(result.error, "mainspring: error: ");
  }
  const std::vector<std::pair<std::vector<std::string>, const char*>> numbers = {
      {{"run", "-n", "many"}, "--predict: want a whole number, -1 or more, not many"},
      {{"run", "-c", "4294967296"},
       "--ctx-size: want a whole number, 0 to 4294967295, not 4294967296"},
      {{"chat", "--top-k", "-1"}, "--top-k: want a whole number, 0 to 4294967295, not -1"},
      {{"run", "--temp", "hot"}, "--temp: want a number, 0 or more, not hot"},
      {{"run", "--temp", "nan"}, "--temp: want a number, 0 or more, not nan"},
      {{"run", "--top-p", "0"}, "--top-p: want a number, above 0, at most 1, not 0"},
      {{"run", "--repeat-penalty", "0"}, "--repeat-penalty: want a number, above 0, not 0"},
      {{"run", "-hfr"}, "--hf-repo: 1 required USER/REPO[:WHICH] missing"},
      {{"run", "-hy"}, "The following argument was not expected: -hy"},
      {{"run", "--no", "--such", "--flags"},
       "The following arguments were not expected: --no --such --flags"},
      {{"run", "", "--no"}, "The following argument was not expected: --no"},
      {{"pull", "a/b", "c", "d", "e"}, "The following arguments were not expected: c d e"},
      {{"run", "-ngl", "99", ">"},
       "there is no -ngl: the whole model runs on the GPU, so leave it out"},
      {{"chat", "--n-gpu-layers=99"},
       "there is no --n-gpu-layers: the whole model runs on the GPU, so leave it out"},
      {{"bench", "-t", "8"}, "there is no -t: the GPU does the work, so leave it out"},
      {{"serve", "-np", "4"},
       "there is no -np: one request is worked on at a time, so leave it out"},
      {{"serve", "--parallel", "4"},
       "there is no --parallel: one request is worked on at a time, so leave it out"},
      {{"run", "--presence-penalty", "x"}, "--presence-penalty: want a number, not x"},
      {{"serve", "--port", "65536"}, "--port: want a whole number, 0 to 65535, not 65536"},
      {{"serve", "--queue", "0"}, "--queue: want a whole number, 1 to 512, not 0"},
      {{"bench", "--parallel", "0"}, "--parallel: want a whole number, 1 to 1024, not 0"},
      {{"bench", "-p", "8,x"}, "--n-prompt: want a whole number, 0 to 1048576, not x"},
      {{"run", "--verbose=maybe"}, "--verbose: want true or false, not maybe"},
      {{"perplexity", "--chunks", "1.5"},
       "--chunks: want a whole number, 0 to 4294967295, not 1.5"},
  };
  for (const auto& [arguments, message] : numbers)
    EXPECT_EQ(run(arguments).error,
              fmt::format("mainspring: error: {}\nmainspring {} --help says what there is.\n",
                          message, arguments[0]));
  EXPECT_SAYS(run({"bench", "--synthetic", "llama-8b:no"}).error,
              "no synthetic weights of type \"no\": there are f32, f16,");
  // The help that has the option.
  EXPECT_SAYS(run({"run", "-m", model(), "-n", "many", ">"}).error,
              "\nmainspring run --help says what there is.");
}

TEST_F(Cli, files_that_cannot_be_read_exit_with_1_and_are_named) {
  const std::string whole = read_file(file_.path());
  const TemporaryFile cut(std::string_view(whole).substr(0, whole.size() / 2)), empty("");
  for (const std::string& path : {std::string("no/such.gguf"), cut.path().string(),
                                  empty.path().string(), std::string("/")}) {
    for (const char* command : {"run", "logits", "perplexity", "bench"}) {
      std::vector<std::string> arguments = {command, "-m", path};
      if (command == std::string_view("run")) arguments.push_back(">");
      if (command == std::string_view("logits"))
        arguments.insert(arguments.end(), {"--tokens", "1", "--greedy", "1"});
      if (command == std::string_view("perplexity"))
        arguments.insert(arguments.end(), {"-f", MS_SOURCE_DIR "/README.md"});
      const Result result = run(arguments);
      EXPECT_EQ(result.code, 1) << command << " " << path;
      EXPECT_SAYS(result.error, path);
    }
  }
}

TEST(CliKernels, old_files_that_differ_exit_with_1_behind_the_table) {
  const TemporaryFolder folder;
  const auto compare = [&](std::string_view value) {
    std::ofstream(folder.path() / "scale.wgsl") << fmt::format(R"(
struct Uniforms {{ count: u32, scale: f32, pad0: u32, pad1: u32 }}
@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>) {{ output[gid.x] = {}; }}
)",
                                                               value);
    return run({"kernels", "--before", folder.path().string()});
  };
  const Result equal = compare("input[gid.x] * u.scale");
  EXPECT_EQ(equal.code, 0) << equal.error;
  EXPECT_SAYS(equal.out, "1  equal\n");
  const Result different = compare("input[gid.x] + u.scale");
  EXPECT_EQ(different.code, 1);
  EXPECT_SAYS(different.out, "1  different\n");
  EXPECT_SAYS(different.error, "mainspring: error: old entries: 1 different, 0 not compiling");
  const Result broken = compare("inputs[gid.x]");
  EXPECT_EQ(broken.code, 1);
  EXPECT_SAYS(broken.out, "1  does not compile\n");
  const Result none = run({"kernels", "--before", folder.path().string() + "/none"});
  EXPECT_EQ(none.code, 1);
  EXPECT_SAYS(none.error, "no such folder");
}

TEST_F(Cli, without_a_driver_it_says_what_to_install) {
  const Result result = run({"run", "-m", model(), ">"}, "",
                            {"VK_DRIVER_FILES=/dev/null", "VK_ICD_FILENAMES=/dev/null"});
  EXPECT_EQ(result.code, 1);
  EXPECT_SAYS(result.error, "found no driver. Install one");
}

TEST_F(Cli, ctrl_c_ends_the_text_and_exits_with_130) {
  const TemporaryFile endless(scripted_model({.chain = "z", .context = 20000}));
  Program program({"run", "-m", endless.path(), "--temp", "0", "-c", "20000", "z"});
  for (int i = 0; i < 600 && program.out().empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  program.interrupt();
  EXPECT_EQ(program.wait(), 130);
  EXPECT_EQ(program.error(), "");
  EXPECT_SAYS(program.out(), "zz");
  EXPECT_EQ(program.out().back(), '\n');
}

TEST_F(Cli, a_reader_that_goes_away_ends_it_without_a_word) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const TemporaryFile endless(scripted_model({.chain = "z", .context = 20000}));
  Program program({"run", "-m", endless.path(), "--temp", "0", "-c", "20000", "z"}, "", {},
                  ends[1]);
  close(ends[1]);
  char first = 0;
  EXPECT_EQ(read(ends[0], &first, 1), 1);
  close(ends[0]);
  EXPECT_EQ(first, 'z');
  EXPECT_EQ(program.wait(), 128 + SIGPIPE);
  EXPECT_EQ(program.error(), "");
}

TEST_F(Cli, help_and_version_exit_with_0) {
  EXPECT_SAYS(run({"--help"}).out, "Exit codes");
  for (const char* command : {"run", "logits", "perplexity", "bench"}) {
    const Result result = run({command, "--help"});
    EXPECT_EQ(result.code, 0);
    EXPECT_SAYS(result.out, "Examples:");
  }
  EXPECT_SAYS(run({"--version"}).out, "mainspring ");
  const std::string help = run({"run", "-h"}).out;
  EXPECT_SAYS(help, "FLOAT:above 0, at most 1");
  EXPECT_SAYS(help, "FLOAT:0 or more");
  EXPECT_EQ(run({"run", "--stop", "-hy", "--help"}).out, help);
}

TEST_F(Cli, logits_are_a_numpy_array_with_a_row_a_token) {
  const TemporaryFile out, tokens("[29,\n39 68]\n");  // ">He"
  const auto logits = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"logits", "-m", model(), "-o", out.path(), "--tokens"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Result result = run(arguments);
    EXPECT_EQ(result.code, 0) << result.error;
    return std::pair(result.out, read_file(out.path()));
  };
  for (const char* batch : {"1", "2", "512"}) {
    const auto [text, file] = logits({"29,39,68", "-ub", batch, "-ctk", "f32", "--greedy", "3"});
    EXPECT_EQ(text, "[75,78,94]\n");  // "lo "
    const uint16_t header = uint16_t(uint8_t(file.at(8)) | uint8_t(file.at(9)) << 8);
    EXPECT_EQ(file.substr(0, 8), std::string("\x93NUMPY\1\0", 8));
    EXPECT_EQ((10 + header) % 64, 0);
    EXPECT_SAYS(file.substr(10, header),
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 103), }");
    ASSERT_EQ(file.size(), 10 + header + 3 * 103 * 4u);
    std::vector<float> rows(3 * 103);
    std::memcpy(rows.data(), file.data() + 10 + header, rows.size() * 4);
    EXPECT_NEAR(rows[script_token('H')], 20, 1e-3);
    EXPECT_NEAR(rows[2 * 103 + script_token('l')], 20, 1e-3);
    EXPECT_NEAR(rows[2 * 103 + script_token('H')], 0, 1e-3);
    EXPECT_EQ(logits({"@" + tokens.path().string(), "-ub", batch, "-ctk", "f32"}).second, file);
  }
  EXPECT_SAYS(logits({"29,39,68", "--rows", "2,0"}).second, "'shape': (2, 103)");
}

TEST_F(Cli, perplexity_is_what_the_probabilities_say) {
  // The likely successor has a probability of likely(c), each other token one of unlikely(c).
  const auto sum = [](double c) { return std::exp(c) + 102; };
  const auto likely = [&](double c) { return std::exp(c) / sum(c); };
  const auto unlikely = [&](double c) { return 1 / sum(c); };
  const auto model_of = [](float confidence) {
    return TemporaryFile(
        scripted_model({.chain = ">Helo wrd.", .confidence = confidence, .context = 64}));
  };
  const TemporaryFile two = model_of(2), one = model_of(1), text(">Helx"), base;
  const auto perplexity = [&](const TemporaryFile& model, std::vector<std::string> more) {
    more.insert(more.begin(), {"perplexity", "-m", model.path(), "-ctk", "f32"});
    const Result result = run(more);
    EXPECT_EQ(result.code, 0) << result.error;
    return result.out;
  };
  const double whole = -(3 * std::log(likely(2)) + std::log(unlikely(2))) / 4;
  for (const char* batch : {"1", "2", "512"})
    EXPECT_SAYS(perplexity(two, {"-f", text.path(), "--whole", "-ub", batch}),
                fmt::format("1 piece of 5 tokens, 4 of them counted: {:.6f}", whole));
  // Of pieces of four tokens the last counts: "l" after "e", and "e" after "H".
  const TemporaryFile pieces(">Heloo>He");
  EXPECT_SAYS(perplexity(two, {"-f", pieces.path(), "-c", "4"}),
              fmt::format("2 pieces of 4 tokens, 2 of them counted: {:.6f}", -std::log(likely(2))));
  EXPECT_SAYS(perplexity(two, {"-f", pieces.path(), "-c", "4", "--chunks", "1"}), "1 piece of 4");

  EXPECT_SAYS(perplexity(two, {"-f", text.path(), "--whole", "--kl-base", base.path()}), "PPL");
  EXPECT_SAYS(perplexity(two, {"--kl", "--kl-base", base.path()}), "mean 0.000e+00");
  const std::string compared = perplexity(one, {"--kl", "--kl-base", base.path()});
  EXPECT_SAYS(compared, fmt::format("mean {:.3e}",
                                    likely(2) * std::log(likely(2) / likely(1)) +
                                        102 * unlikely(2) * std::log(unlikely(2) / unlikely(1))));
  EXPECT_SAYS(compared, fmt::format("base: PPL = {:.4f}", std::exp(whole)));
  EXPECT_SAYS(compared, "same top token: 100.000");

  const auto refuses = [&](int code, std::vector<std::string> more, const char* message) {
    more.insert(more.begin(), {"perplexity", "-m", two.path()});
    const Result result = run(more);
    EXPECT_EQ(result.code, code);
    EXPECT_SAYS(result.error, message);
  };
  refuses(2, {}, "give one with -f");
  refuses(2, {"-f", text.path(), "--kl"}, "--kl-base");
  refuses(2, {"-f", text.path(), "--kl", "--kl-base", base.path()}, "not -f");
  for (const std::vector<std::string>& pieces :
       {std::vector<std::string>{"-c", "64"}, {"--chunks", "1"}, {"--whole"}}) {
    std::vector<std::string> arguments = {"--kl", "--kl-base", base.path()};
    arguments.insert(arguments.end(), pieces.begin(), pieces.end());
    refuses(2, arguments, "its pieces are those of the file of --kl-base");
  }
  refuses(2, {"-f", text.path(), "--kl-base", ""}, "--kl-base names no file");
  const TemporaryFolder folder;
  const std::string pipe = folder.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  refuses(1, {"--kl", "--kl-base", pipe}, "pipe: is not a regular file");
  refuses(1, {"-f", text.path(), "--whole", "--kl-base", pipe}, "pipe: is not a regular file");
  refuses(2, {"-f", text.path(), "-c", "3"}, "4 tokens or more");
  refuses(1, {"-f", text.path()}, "has 5 tokens; 512 at least");
  refuses(1, {"--kl", "--kl-base", text.path()}, "is not a file of --kl-base");
  // What is read, and what no --kl-base wrote, is not written over; another base is.
  const std::string read_by_all[] = {read_file(two.path()), read_file(text.path())};
  for (const TemporaryFile* file : {&two, &text})
    refuses(2, {"-f", text.path(), "--whole", "--kl-base", file->path()}, "is what is read, too");
  refuses(1, {"-f", text.path(), "--whole", "--kl-base", one.path()}, "it is left as it is");
  EXPECT_EQ(read_file(two.path()), read_by_all[0]);
  EXPECT_EQ(read_file(text.path()), read_by_all[1]);
  EXPECT_SAYS(perplexity(two, {"-f", text.path(), "--whole", "--kl-base", base.path()}), "PPL");
  const std::string whole_file = read_file(base.path());
  const TemporaryFile cut(whole_file.substr(0, whole_file.size() - 4)),
      other(whole_file.substr(0, 8) + std::string("\x68\0\0\0", 4) + whole_file.substr(12));
  refuses(1, {"--kl", "--kl-base", cut.path()}, "its header (1 pieces of 5 tokens");
  refuses(1, {"--kl", "--kl-base", other.path()}, "vocabulary 104");
  // The last token of a piece, which is looked up and never evaluated; and numbers whose product
  // has no bits but those beyond 64.
  const auto changed = [&](size_t offset, std::string_view bytes, size_t end) {
    return TemporaryFile(whole_file.substr(0, offset) + std::string(bytes) +
                         whole_file.substr(offset + bytes.size(), end - offset - bytes.size()));
  };
  const TemporaryFile token = changed(24 + 4 * 4, {"\xff\xff\xff\x7f", 4}, whole_file.size()),
                      huge = changed(8, {"\0\0\0\x80\0\0\0\x80\xfe\xff\xff\x7f\0\0\0\x80", 16}, 24);
  refuses(1, {"--kl", "--kl-base", token.path()},
          fmt::format("{}: token 4 of piece 0 is 2147483647; the vocabulary has 103",
                      token.path().string())
              .c_str());
  refuses(1, {"--kl", "--kl-base", huge.path()}, "24 bytes are not what its header");
  // The first row's first number, after the header and the five tokens.
  for (const std::string_view number :
       {std::string_view("\xff\xff\xff\xff", 4), {"\0\0\x80\x7f", 4}, {"\0\0\0\0", 4}}) {
    const TemporaryFile row = changed(24 + 5 * 4, number, whole_file.size());
    refuses(1, {"--kl", "--kl-base", row.path()}, "row 0 is damaged: its probabilities come to ");
  }
}

TEST(CliPerplexity, of_random_weights_reads_random_tokens) {
  const TemporaryFile base;
  const auto random = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"perplexity", "--synthetic", "llama-1b:q4_0", "-ctk", "f32",
                               "--activations", "f32", "--kl-base", base.path()});
    const Result result = run(more);
    EXPECT_EQ(result.code, 0) << result.error;
    return result.out;
  };
  EXPECT_SAYS(random({"-c", "4", "--chunks", "2"}), "2 pieces of 4 tokens, 2 of them counted");
  EXPECT_SAYS(random({"--kl"}), "KL divergence: mean 0.000e+00");
  const Result text = run({"perplexity", "--synthetic", "llama-1b:q4_0", "-f", base.path()});
  EXPECT_EQ(text.code, 2);
  EXPECT_SAYS(text.error, "it reads random tokens");
}

TEST(CliPerplexity, of_a_long_text_is_the_exact_models) {
  if (!std::getenv("MAINSPRING_FULL")) GTEST_SKIP() << "takes minutes: needs MAINSPRING_FULL";
  const auto folder = shared_folder() / "golden";
  for (const std::string name : {"smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b"}) {
    const auto golden = folder / (name + "-long.json"), model = model_file(name);
    if (!exists(golden) || !exists(model))
      GTEST_SKIP() << golden << " or " << model << " is not there";
    const auto json = read_json(golden);
    const Result result = run({"perplexity", "-m", model, "-f",
                               folder / json["text"].get<std::string>(), "--whole", "-ctk", "f32"});
    EXPECT_EQ(result.code, 0) << result.error;
    const size_t at = result.out.find("of them counted: ");
    ASSERT_NE(at, std::string::npos) << result.out;
    EXPECT_NEAR(std::stod(result.out.substr(at + 17)), json["nats_per_token"].get<double>(), 1e-6);
  }
}

TEST_F(Cli, embed_prints_a_vector_of_length_1_for_each_text) {
  const Result result = run({"embed", "-m", MS_SOURCE_DIR "/tests/golden/hf-bert", "one"});
  EXPECT_EQ(result.code, 1);
  EXPECT_SAYS(result.error, "no tokenizer");
  const Result two = run({"embed", "-m", model(), "He", "lo"});
  ASSERT_EQ(two.code, 0) << two.error;
  std::istringstream lines(two.out);
  std::string line;
  int count = 0;
  for (; std::getline(lines, line); ++count) {
    double squares = 0;
    for (const double x : nlohmann::json::parse(line).get<std::vector<double>>()) squares += x * x;
    EXPECT_NEAR(squares, 1, 1e-5);
  }
  EXPECT_EQ(count, 2);
  const Result text = run(
      {"logits", "-m", MS_SOURCE_DIR "/tests/golden/hf-bert", "--tokens", "1", "--greedy", "1"});
  EXPECT_EQ(text.code, 1);
  EXPECT_SAYS(text.error, "makes embeddings");
  // However much is asked of it.
  const TemporaryFile file("a text");
  const std::string tokens = fmt::format("{}", fmt::join(std::vector(70, 1), ","));
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"bench", "-p", "8", "-n", "0", "-r", "1"},
        {"perplexity", "-f", file.path()},
        {"logits", "--greedy", "1", "--tokens", tokens}}) {
    std::vector<std::string> arguments = more;
    arguments.insert(arguments.end(), {"-m", MS_SOURCE_DIR "/tests/golden/hf-bert"});
    const Result refused = run(arguments);
    EXPECT_EQ(refused.code, 1);
    EXPECT_SAYS(refused.error,
                "is an encoder: it makes embeddings (mainspring embed), and no text");
  }
}

TEST_F(Cli, bench_prints_what_llama_bench_prints) {
  const Result result =
      run({"bench", "-m", model(), "-p", "8", "-n", "4,6", "-d", "0,5", "-r", "2", "-o", "json"});
  ASSERT_EQ(result.code, 0) << result.error;
  const auto tests = nlohmann::json::parse(result.out);
  ASSERT_EQ(tests.size(), 6u);
  EXPECT_EQ(tests[5]["n_gen"], 6);
  EXPECT_EQ(tests[5]["n_depth"], 5);
  EXPECT_EQ(tests[3]["n_prompt"], 8);
  for (const auto& test : tests) {
    EXPECT_GT(test["avg_ts"], 0.0);
    EXPECT_EQ(test["samples_ns"].size(), 2u);
    EXPECT_EQ(test["model_size"], (2 * 103 + 4 * 128 + 3 * 64 + 3) * 128 * 4);
    EXPECT_GT(test["bandwidth_gb_per_s"], 0.0);
    EXPECT_LT(test["nmse_step_to_batch"], 1e-4);
    EXPECT_GT(test["weights_bytes"], 0);
    EXPECT_GT(test["weights_seconds"], 0);
    EXPECT_EQ(test.contains("share_of_bandwidth"), test["n_gen"] > 0);
    const double busy = test.value("gpu_busy", 1.0);
    EXPECT_TRUE(busy > 0 && busy <= 1) << busy;
  }
  const Result table = run({"bench", "-m", model(), "-p", "8", "-n", "4", "-r", "1"});
  EXPECT_EQ(table.code, 0);
  EXPECT_SAYS(table.out, "| pp8 |");
  EXPECT_SAYS(table.out, "| tg4 |");
  EXPECT_SAYS(table.out, "decode step and batch agree");
}

TEST_F(Cli, bench_times_several_sequences_at_once) {
  const Result result = run({"bench", "-m", model(), "-p", "0", "-n", "4", "-d", "5", "-r", "2",
                             "--parallel", "1,3", "-o", "json"});
  ASSERT_EQ(result.code, 0) << result.error;
  const auto tests = nlohmann::json::parse(result.out);
  ASSERT_EQ(tests.size(), 2u);
  EXPECT_EQ(tests[0]["n_parallel"], 1);
  EXPECT_EQ(tests[1]["n_parallel"], 3);
  EXPECT_NEAR(tests[1]["avg_ts"].get<double>(), 12e9 / tests[1]["avg_ns"].get<double>(),
              tests[1]["avg_ts"].get<double>() / 2);
  EXPECT_LT(tests[1]["bytes_per_token"], tests[0]["bytes_per_token"]);
  const Result table = run({"bench", "-m", model(), "-p", "0", "-n", "4", "--parallel", "2"});
  EXPECT_SAYS(table.out, "| tg4 x 2 |");
  EXPECT_SAYS(table.out, "sequences side by side");
}

TEST_F(Cli, a_context_that_no_binding_holds_is_told_with_the_options_that_made_it) {
  const TemporaryFile text(std::string(4'000'000, 'z'));
  const std::string most = fmt::format("{}", 1 << 20);
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"bench", "-d", most, "-p", most}, "tokens (-d with -p or -n)"},
      {{"logits", "--tokens", "1", "--greedy", most + "0"}, "tokens (--tokens with --greedy)"},
      {{"perplexity", "-f", text.path(), "--whole"}, "tokens (-c instead of --whole)"},
      {{"run", "-c", most + "0", ">"}, "tokens (-c)"}};
  for (auto [arguments, message] : cases) {
    arguments.insert(arguments.end(), {"-m", model(), "--tier", "portable"});  // for its limits
    const Result result = run(arguments);
    EXPECT_EQ(result.code, 1);
    EXPECT_SAYS(result.error, message);
  }
}

TEST_F(Cli, tune_says_where_there_is_nothing_to_tune) {
  const Result result = run({"--tier", "portable", "tune", "-m", model()});
  EXPECT_EQ(result.code, 1);
  EXPECT_SAYS(result.error, "nothing to tune");
}

TEST_F(Cli, bench_lists_the_dispatches_of_a_step) {
  const Result listed =
      run({"bench", "-m", model(), "-p", "8", "-n", "4", "--dispatches", "-o", "json"});
  ASSERT_EQ(listed.code, 0) << listed.error;
  const auto lists = nlohmann::json::parse(listed.out);
  ASSERT_EQ(lists.size(), 2u);
  EXPECT_EQ(lists[1]["n_gen"], 4);
  double sum = 0;
  for (const auto& dispatch : lists[1]["dispatches"]) {
    EXPECT_GT(dispatch["count"], 0);
    EXPECT_GT(dispatch["bytes"], 0);
    sum += dispatch["us"].get<double>();
  }
  EXPECT_NEAR(lists[1]["sum_us"].get<double>(), sum, 1e-6 * sum);
  EXPECT_GT(lists[1]["whole_us"], 0.0);
  const Result result = run({"bench", "-m", model(), "-p", "8", "-n", "4", "--dispatches"});
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_SAYS(result.out, "| matmul_gemv | attn_q | 1 |");
  EXPECT_SAYS(result.out, "| attention_decode | ");
  EXPECT_SAYS(result.out, "| matmul | attn_q | 1 |");
}

}  // namespace
}  // namespace ms
