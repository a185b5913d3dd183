// serve.cpp: mainspring serve: a model behind OpenAI's HTTP API.
#include <semaphore.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "apps/model_options.hpp"
#include "server/server.hpp"

namespace ms {

namespace {

constexpr const char* notes =
    R"(Clients of OpenAI's API work unchanged, with http://HOST:PORT/v1 for their base URL. Routes:
  POST /v1/chat/completions, /v1/completions    "stream": true sends the answer as it comes
  POST /v1/embeddings                           of an encoder, or of this model's last states
  GET  /v1/models, /v1/models/NAME, /health, /metrics
  POST /tokenize {"content"}, /detokenize {"tokens"}, /apply-template {"messages"}
  GET  /                                        a page to chat in, for any browser
An API key is wanted by every route but /health and the page's files, which hold no secret: the page
asks for the key, and sends it.
Without a key, a server on a loopback address takes no requests that a browser sends for another site's
page (403): Host and Origin have to be names of this machine, as localhost. It sends no CORS headers.
A parameter that is wrong is an error that names it, and so is one of OpenAI's that is not supported
and would change the answer, and llama-server's n_predict, grammar and json_schema, which have another
name here. Other names are ignored. One request is worked on at a time; --queue may wait, and beyond
that the answer is 503. A client that leaves ends its request.
There is no TLS: on a network, set an API key and stand a proxy in front. Ctrl-C ends the server.

Examples:
  mainspring serve -m model.gguf
  mainspring serve -hf ggml-org/gemma-3-270m-it-GGUF --port 9000 --api-key-file key.txt
  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"messages": [{"role": "user", "content": "Why is the sky blue?"}]}'

Exit codes: 0 ended by Ctrl-C or SIGTERM, 1 failed, 2 wrong use.)";

struct Arguments {
  ModelArguments model;
  uint32_t context = 0;
  ServerOptions server;
  std::string key_file;
  bool key_given = false;
};

std::string read_key(const std::string& path) {
  std::ifstream file(path);
  std::string key;
  std::getline(file, key);
  if (!file.eof() && !file) fail("cannot read a key from {}: {}", path, std::strerror(errno));
  while (!key.empty() && (key.back() == '\r' || key.back() == ' ')) key.pop_back();
  if (key.empty()) fail("{} has no API key in its first line", path);
  return key;
}

// The last component that says something: a file without its ending, or a folder.
std::string name_of(const std::filesystem::path& path) {
  const std::filesystem::path clean = std::filesystem::absolute(path).lexically_normal();
  const std::filesystem::path last = clean.has_filename() ? clean : clean.parent_path();
  return last.extension() == ".gguf" ? last.stem().string() : last.filename().string();
}

sem_t ended;  // by a signal

// Ends the server at SIGINT or SIGTERM; a second one ends the program at once.
class Watch {
 public:
  explicit Watch(Server& server) {
    sem_init(&ended, 0, 0);
    struct sigaction action = {};
    action.sa_handler = [](int) { sem_post(&ended); };
    action.sa_flags = SA_RESTART | int(SA_RESETHAND);
    for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
    thread_ = std::thread([&server] {
      while (sem_wait(&ended) != 0) {
      }
      server.stop();
    });
  }
  ~Watch() {
    sem_post(&ended);
    thread_.join();
  }

 private:
  std::thread thread_;
};

void serve(const GlobalOptions& options, Arguments& a) {
  ServerOptions& server_options = a.server;
  require(!a.key_given || !server_options.api_key.empty(), "--api-key is empty");
  std::string& host = server_options.host;
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);  // a URL's
  require(!host.empty(), "--host is empty");
  if (server_options.api_key.empty() && !a.key_file.empty())
    server_options.api_key = read_key(a.key_file);
  const std::filesystem::path model = model_path(a.model.model, a.model.hub_model);
  if (server_options.model.empty()) server_options.model = name_of(model);

  Engine engine(engine_options(options, model, a.model, a.context));
  Server server(engine, server_options);
  const Watch watch(server);
  const bool ipv6 = host.find(':') != std::string::npos;
  const std::string address =
      fmt::format("http://{}{}{}:{}", ipv6 ? "[" : "", host, ipv6 ? "]" : "", server.port());
  fmt::print("{} at {}/v1\n", server_options.model, address);
  if (engine.chat_template() && !engine.is_encoder())
    fmt::print("a page to chat in: {}/\n", address);
  std::fflush(stdout);
  if (server_options.api_key.empty() && !server.is_local())
    fmt::print(stderr, "mainspring: anyone who reaches {} may use it: there is no API key\n", host);
  server.run();
}

}  // namespace

void add_serve(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command = *app.add_subcommand("serve", "A server that speaks OpenAI's API.");
  const auto a = std::make_shared<Arguments>();
  command.footer(notes);
  add_model_options(command, a->model);
  add_context_option(command, a->context);
  add_option(command, "--host", a->server.host, "Address to listen at");
  add_number(command, "--port", a->server.port, "Port; 0: any that is free");
  CLI::Option* const key =
      add_option(command, "--api-key", a->server.api_key, "The key that clients must send");
  add_option(command, "--api-key-file", a->key_file, "A file with the key, in its first line")
      ->excludes(key);
  add_number(command, "--queue", a->server.queue, "Requests that may wait", 1, 512);
  add_option(command, "-a,--alias", a->server.model,
             "The model's name in the API; else its file's");
  add_flag(command, "--verbose", a->server.log, "Print a line for each request to stderr");
  command.callback([=, &options] {
    a->key_given = key->count() > 0;
    serve(options, *a);
  });
}

}  // namespace ms
