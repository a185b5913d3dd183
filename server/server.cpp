// server.cpp: the routes, and how a generation goes out: whole, or piece by piece.
#include "server/server.hpp"

#include <strings.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <deque>
#include <map>
#include <random>

#include "base/error.hpp"
#include "server/api.hpp"
#include "server/http.hpp"
#include "server/page.hpp"
#include "server/worker.hpp"
#include "text/grammar.hpp"

namespace ms {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds look_around(100);  // for a client that has left
constexpr std::chrono::seconds ping_after(10);         // without a word
constexpr size_t spare_threads = 32;                   // for what does not wait for the engine

struct Event {
  enum class What { report, text, choice, embedding, end } what;
  uint32_t choice = 0;
  std::string text = {};
  Finish finish = Finish::cancelled;
  uint32_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  TokenReport report = {};
  std::vector<float> embedding = {};
  std::exception_ptr error = {};
};

using Reports = std::vector<TokenReport>;

// From the worker's thread to that of a connection.
class Mailbox {
 public:
  void push(Event event) {
    {
      const std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
    }
    changed_.notify_one();
  }
  std::optional<Event> pop(std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, wait, [&] { return !events_.empty(); })) return std::nullopt;
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
};

// A request on its way: its end withdraws it.
struct Exchange {
  std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>();
  std::shared_ptr<Worker::Ticket> ticket;
  std::function<bool()> connected;
};

constexpr const char* stopping = "the server is stopping";

// A generation has ended that was not wanted any more.
[[noreturn]] void throw_cancelled(const Exchange& exchange) {
  if (exchange.connected()) throw ApiError(503, stopping, {}, "stopping");
  throw ApiError(499, "the client has left");  // nginx's number for it; nobody reads this
}

// `form`: the parameter that a grammar came from.
[[noreturn]] void throw_failed(const std::exception_ptr& error, const char* form = "") {
  try {
    std::rethrow_exception(error);
  } catch (const GrammarError& what) {
    throw ApiError(400, what.what(), form);
  } catch (const std::exception& what) {
    throw ApiError(500, fmt::format("the generation failed: {}", what.what()));
  }
}

const char* finish_reason(Finish finish, bool calls) {
  if (finish != Finish::stop_token && finish != Finish::stop_string) return "length";
  return calls ? "tool_calls" : "stop";
}

// Nine letters and digits, which is what some templates (Mistral) take for the id of a call.
std::string random_id() {
  constexpr std::string_view digits =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::random_device random;
  std::string id;
  while (id.size() < 9) id += digits[random() % digits.size()];
  return id;
}

// What a choice says, thinks and calls.
struct Answer {
  std::string content, reasoning;
  Json calls = Json::array();

  void add(const ReplyPart& part) {
    switch (part.what) {
      case ReplyPart::What::content:
        content += part.text;
        break;
      case ReplyPart::What::reasoning:
        reasoning += part.text;
        break;
      case ReplyPart::What::call:
        calls.push_back({{"id", random_id()},
                         {"type", "function"},
                         {"function", {{"name", part.text}, {"arguments", ""}}}});
        break;
      case ReplyPart::What::arguments:
        calls.back()["function"]["arguments"].get_ref<std::string&>() += part.text;
        break;
    }
  }
  Json message() const {
    Json result = {{"role", "assistant"},
                   {"content", content.empty() && !calls.empty() ? Json() : Json(content)},
                   {"refusal", nullptr}};
    if (!reasoning.empty()) result["reasoning_content"] = reasoning;
    if (!calls.empty()) result["tool_calls"] = calls;
    return result;
  }
  // Of the part that was added last.
  Json delta(const ReplyPart& part) const {
    if (part.what == ReplyPart::What::content) return {{"content", part.text}};
    if (part.what == ReplyPart::What::reasoning) return {{"reasoning_content", part.text}};
    Json call = {{"index", calls.size() - 1}};
    if (part.what == ReplyPart::What::call)
      call.update(calls.back());
    else
      call["function"] = {{"arguments", part.text}};
    return {{"tool_calls", Json::array({call})}};
  }
};

struct Usage {
  uint32_t prompt = 0, cached = 0, generated = 0;

  void add(const Event& event) {  // the choices have one prompt
    if (prompt == 0) cached = event.cached_tokens;
    prompt = event.prompt_tokens;
    generated += event.generated_tokens;
  }
  Json json() const {
    return {{"prompt_tokens", prompt},
            {"completion_tokens", generated},
            {"total_tokens", prompt + generated},
            {"prompt_tokens_details", {{"cached_tokens", cached}}}};
  }
};

// The shapes of an answer: those of chat completions, or of completions.
class Shape {
 public:
  Shape(bool chat, bool logprobs, std::string model)
      : chat_(chat), logprobs_(logprobs), model_(std::move(model)), created_(std::time(nullptr)) {
    std::random_device random;
    id_ = fmt::format("{}-{:08x}{:08x}{:08x}", chat ? "chatcmpl" : "cmpl", random(), random(),
                      random());
  }
  Json answer(Json choices, const Usage& usage) const {
    Json result = head(chat_ ? "chat.completion" : "text_completion", std::move(choices));
    result["usage"] = usage.json();
    return result;
  }
  Json choice(uint32_t index, const Answer& answer, const Reports& reports, Finish finish,
              bool calls) const {
    Json result = {{"index", index}};
    if (chat_)
      result["message"] = answer.message();
    else
      result["text"] = answer.content;
    size_t offset = 0;
    result["logprobs"] = logprobs(reports, offset);
    result["finish_reason"] = finish_reason(finish, calls);
    return result;
  }
  bool begins_with_role() const { return chat_; }
  Json role_chunk(uint32_t index) const {
    return chunk(index, {{"role", "assistant"}, {"content", ""}}, nullptr);
  }
  // With the reports since the last chunk, whose tokens begin `offset` characters behind the
  // prompt.
  Json part_chunk(uint32_t index, const ReplyPart& part, const Answer& so_far,
                  const Reports& reports, size_t& offset) const {
    return chunk(index, chat_ ? so_far.delta(part) : Json(part.text), nullptr,
                 logprobs(reports, offset));
  }
  Json end_chunk(uint32_t index, Finish finish, bool calls, const Reports& reports,
                 size_t& offset) const {
    return chunk(index, chat_ ? Json::object() : Json(""), finish_reason(finish, calls),
                 reports.empty() ? Json() : logprobs(reports, offset));
  }
  Json usage_chunk(const Usage& usage) const {
    Json result = head(chunk_name(), Json::array());
    result["usage"] = usage.json();
    return result;
  }

 private:
  const char* chunk_name() const { return chat_ ? "chat.completion.chunk" : "text_completion"; }
  Json head(const char* object, Json choices) const {
    return {{"id", id_},
            {"object", object},
            {"created", created_},
            {"model", model_},
            {"choices", std::move(choices)}};
  }
  Json logprobs(const Reports& reports, size_t& offset) const {
    if (!logprobs_) return nullptr;
    return chat_ ? chat_logprobs(reports) : text_logprobs(reports, offset);
  }
  Json chunk(uint32_t index, Json what, Json finish, Json logprobs = nullptr) const {
    Json choice = {{"index", index}};
    choice[chat_ ? "delta" : "text"] = std::move(what);
    choice["logprobs"] = std::move(logprobs);
    choice["finish_reason"] = std::move(finish);
    Json choices = Json::array();
    choices.push_back(std::move(choice));
    return head(chunk_name(), std::move(choices));
  }

  bool chat_, logprobs_;
  std::string model_, id_;
  std::time_t created_;
};

HttpReply refusal(const ApiError& error) {
  HttpReply reply{.status = error.status, .body = error.json()};
  if (error.status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.status == 503) reply.headers.emplace_back("Retry-After", "2");
  return reply;
}

// Takes as long whatever is given.
bool same_key(std::string_view given, std::string_view key) {
  unsigned different = given.size() != key.size();
  for (size_t i = 0; i < given.size(); ++i)
    different |= unsigned(given[i]) ^ unsigned(key[i % key.size()]);
  return different == 0;
}

}  // namespace

class Server::Impl {
 public:
  Impl(Engine& engine, ServerOptions options)
      : engine_(engine),
        options_(std::move(options)),
        started_(std::time(nullptr)),
        tool_form_(engine.chat_template() ? ToolForm::of(*engine.chat_template()) : nullptr),
        worker_(engine, options_.queue),
        http_(options_.host, options_.port, options_.queue + 1 + spare_threads,
              {.refuse = [this](const HttpRequest& request) { return refuse(request); },
               .answer = [this](const HttpRequest& request) { return answer(request); },
               .error_body =
                   [this](int status, std::string_view message) {
                     count("none", status);
                     return ApiError(status, std::string(message)).json();
                   }}),
        is_local_(is_loopback(http_.address())) {}

  bool is_local() const { return is_local_; }
  uint16_t port() const { return http_.port(); }
  void run() { http_.run(); }
  void stop() {
    worker_.stop();
    http_.stop();
  }

 private:
  struct Route {
    const char *method, *path;  // a path that ends with '/' stands for all that begin so
    HttpReply (Impl::*handle)(const HttpRequest&);
  };
  static const std::vector<Route>& routes();
  static const Route* route_of(const HttpRequest& request);
  static bool needs_key(const Route* route);

  // Throws ApiError for what a web page of another site sends, which a browser lets reach this
  // machine: under that site's name, or with its Origin. With an API key it needs that.
  void check_site(const HttpRequest& request) const;

  std::optional<HttpReply> refuse(const HttpRequest& request);
  HttpReply answer(const HttpRequest& request);
  void count(const char* route, int status);

  HttpReply page(const HttpRequest& request);
  HttpReply health(const HttpRequest&);
  HttpReply models(const HttpRequest&);
  HttpReply model(const HttpRequest& request);
  HttpReply metrics(const HttpRequest&);
  HttpReply tokenize(const HttpRequest& request);
  HttpReply detokenize(const HttpRequest& request);
  HttpReply apply_template(const HttpRequest& request);
  HttpReply chat(const HttpRequest& request);
  HttpReply complete(const HttpRequest& request);
  HttpReply embeddings(const HttpRequest& request);

  Json model_json() const;
  HttpReply generate(const HttpRequest& request, Completion completion, bool chat);
  // The task of a request, whose Mailbox hears of its end. Throws ApiError where the queue is full.
  void submit(Exchange& exchange, const HttpRequest& request, Task task);

  Engine& engine_;
  const ServerOptions options_;
  const std::time_t started_;
  const ToolForm* const tool_form_;  // null: the model's template does not know tools
  std::mutex mutex_;
  std::map<std::pair<std::string_view, int>, uint64_t> requests_;  // by route and status
  // One request is read at a time: of the longest, tokens take many times its bytes.
  std::mutex reading_;
  Worker worker_;
  HttpServer http_;
  const bool is_local_;
};

const std::vector<Server::Impl::Route>& Server::Impl::routes() {
  static const std::vector<Route> routes = {
      {"GET", "/health", &Impl::health},
      {"GET", "/v1/models", &Impl::models},
      {"GET", "/v1/models/", &Impl::model},
      {"POST", "/v1/chat/completions", &Impl::chat},
      {"POST", "/v1/completions", &Impl::complete},
      {"POST", "/v1/embeddings", &Impl::embeddings},
      {"POST", "/tokenize", &Impl::tokenize},
      {"POST", "/detokenize", &Impl::detokenize},
      {"POST", "/apply-template", &Impl::apply_template},
      {"GET", "/metrics", &Impl::metrics},
  };
  return routes;
}

const Server::Impl::Route* Server::Impl::route_of(const HttpRequest& request) {
  for (const Route& route : routes()) {
    const std::string_view path = route.path;
    if (path.ends_with('/') ? request.path.starts_with(path) : request.path == path) return &route;
  }
  static const Route page = {"GET", "/", &Impl::page};  // all of its files
  return page_file(request.path) ? &page : nullptr;
}

// A browser sends no key for a page, whose files hold no secret: it asks for the key that its
// requests then send.
bool Server::Impl::needs_key(const Route* route) {
  return !route || (route->handle != &Impl::health && route->handle != &Impl::page);
}

void Server::Impl::check_site(const HttpRequest& request) const {
  if (!is_local_ || !options_.api_key.empty()) return;
  const auto is_own = [&](std::string_view authority) {  // HOST:PORT, [ADDRESS]:PORT
    const bool bracket = authority.starts_with('[');
    const std::string host(bracket ? authority.substr(1, authority.find(']') - 1)
                                   : authority.substr(0, authority.find(':')));
    return is_loopback(host) || strcasecmp(host.c_str(), options_.host.c_str()) == 0;
  };
  constexpr const char* otherwise = "others need an API key (--api-key-file)";
  if (!request.host.empty() && !is_own(request.host))
    throw ApiError(403,
                   fmt::format("Host is {:?}, want this machine's own name, as in localhost:{}; {}",
                               request.host, port(), otherwise),
                   {}, "forbidden_host");
  const std::string_view origin = request.origin;
  const size_t scheme = origin.find("://");
  if (!origin.empty() && (scheme == origin.npos || !is_own(origin.substr(scheme + 3))))
    throw ApiError(
        403, fmt::format("a page of {:?} asks, and only this machine's may; {}", origin, otherwise),
        {}, "forbidden_origin");
}

void Server::Impl::count(const char* route, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{route, status}];
}

std::optional<HttpReply> Server::Impl::refuse(const HttpRequest& request) {
  const Route* const route = route_of(request);
  try {
    check_site(request);
    constexpr std::string_view scheme = "bearer ";  // in letters of either case
    const std::string_view given = request.authorization;
    const bool has_scheme =
        std::ranges::equal(given.substr(0, scheme.size()), scheme,
                           [](unsigned char a, unsigned char b) { return std::tolower(a) == b; });
    if (!options_.api_key.empty() && needs_key(route) &&
        !(has_scheme && same_key(given.substr(scheme.size()), options_.api_key)))
      throw ApiError(401, "the API key is missing or wrong: send \"Authorization: Bearer KEY\"", {},
                     "invalid_api_key");
    if (!route) throw ApiError(404, "there is no such route", {}, "not_found");
    if (request.method != route->method)
      throw ApiError(405, fmt::format("{} takes {} alone", route->path, route->method), {},
                     "method_not_allowed");
    // Other types a web page may send to any address without asking.
    const std::string type =
        request.content_type.substr(0, request.content_type.find_first_of("; "));
    if (request.method == "POST" && strcasecmp(type.c_str(), "application/json") != 0)
      throw ApiError(415, "want a body of Content-Type: application/json");
    return std::nullopt;
  } catch (const ApiError& error) {
    count(route ? route->path : "none", error.status);
    HttpReply reply = refusal(error);
    if (error.status == 405) reply.headers.emplace_back("Allow", route->method);
    return reply;
  }
}

HttpReply Server::Impl::answer(const HttpRequest& request) {
  const auto start = Clock::now();
  const Route& route = *route_of(request);
  HttpReply reply;
  try {
    reply = (this->*route.handle)(request);
  } catch (const ApiError& error) {
    reply = refusal(error);
  } catch (const std::invalid_argument& error) {
    reply = refusal(ApiError(400, error.what()));
  } catch (const std::exception& error) {
    reply = refusal(ApiError(500, error.what()));
  }
  count(route.path, reply.status);
  if (!options_.log) return reply;
  const auto log = [&route, start, status = reply.status] {
    fmt::print(stderr, "{} {} {} {:.3f} s\n", route.method, route.path, status,
               std::chrono::duration<double>(Clock::now() - start).count());
  };
  if (reply.stream)
    reply.stream = [log, stream = std::move(reply.stream)](const HttpReply::Write& write) {
      stream(write);
      log();
    };
  else
    log();
  return reply;
}

HttpReply Server::Impl::page(const HttpRequest& request) {
  const PageFile& file = *page_file(request.path);
  // The page talks to this server alone, and what a model writes is never markup.
  return {.type = file.type,
          .body = std::string(file.text),
          .headers = {{"Content-Security-Policy",
                       "default-src 'none'; script-src 'self'; style-src 'self'; "
                       "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                       "frame-ancestors 'none'; require-trusted-types-for 'script'"},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}}};
}

HttpReply Server::Impl::health(const HttpRequest&) {
  if (worker_.figures().broken) return {.status = 503, .body = R"({"status":"error"})"};
  return {.body = R"({"status":"ok"})"};
}

Json Server::Impl::model_json() const {
  return {{"id", options_.model},
          {"object", "model"},
          {"created", started_},
          {"owned_by", "mainspring"},
          {"meta", {{"context", engine_.context()}, {"vocabulary", engine_.config().vocab}}}};
}

HttpReply Server::Impl::models(const HttpRequest&) {
  return {.body = to_text({{"object", "list"}, {"data", Json::array({model_json()})}})};
}

HttpReply Server::Impl::model(const HttpRequest& request) {
  if (request.path != "/v1/models/" + options_.model)
    throw ApiError(404, fmt::format("there is no such model; {} is served", options_.model),
                   "model", "model_not_found");
  return {.body = to_text(model_json())};
}

HttpReply Server::Impl::metrics(const HttpRequest&) {
  const Worker::Figures f = worker_.figures();
  std::string text;
  const auto about = [&](const char* name, const char* type, const char* help) {
    text += fmt::format("# HELP mainspring_{0} {1}\n# TYPE mainspring_{0} {2}\n", name, help, type);
  };
  const auto add = [&](const char* name, const char* type, const char* help, auto value) {
    about(name, type, help);
    text += fmt::format("mainspring_{} {}\n", name, value);
  };
  about("requests_total", "counter", "Requests answered, by route and status.");
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, number] : requests_)
      text += fmt::format("mainspring_requests_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first,
                          key.second, number);
  }
  about("generations_total", "counter", "Generations that have ended, by how.");
  const std::pair<const char*, uint64_t> ends[] = {{"stop", f.choices[0]},
                                                   {"length", f.choices[1]},
                                                   {"cancelled", f.choices[2]},
                                                   {"failed", f.failed}};
  for (const auto& [end, number] : ends)
    text += fmt::format("mainspring_generations_total{{end=\"{}\"}} {}\n", end, number);
  add("prompt_tokens_total", "counter", "Tokens of prompts.", f.prompt_tokens);
  add("cached_tokens_total", "counter", "Of these, those that were known already.",
      f.cached_tokens);
  add("generated_tokens_total", "counter", "Tokens generated.", f.generated_tokens);
  add("embeddings_total", "counter", "Texts embedded.", f.embedded);
  add("prompt_seconds_total", "counter", "Seconds spent on prompts.", f.prompt_seconds);
  add("generate_seconds_total", "counter", "Seconds spent on generating.", f.generate_seconds);
  add("queue_length", "gauge", "Requests that wait.", f.queued);
  add("running", "gauge", "Requests that are worked on.", int(f.running));
  return {.type = "text/plain; version=0.0.4", .body = text};
}

HttpReply Server::Impl::tokenize(const HttpRequest& request) {
  const std::lock_guard lock(reading_);
  return {.body = to_text(ms::tokenize(parse_body(request.body), engine_))};
}

HttpReply Server::Impl::detokenize(const HttpRequest& request) {
  const std::lock_guard lock(reading_);
  return {.body = to_text(ms::detokenize(parse_body(request.body), engine_))};
}

HttpReply Server::Impl::apply_template(const HttpRequest& request) {
  const std::lock_guard lock(reading_);
  return {.body = to_text(ms::apply_template(parse_body(request.body), engine_, tool_form_))};
}

HttpReply Server::Impl::chat(const HttpRequest& request) {
  std::unique_lock lock(reading_);
  Completion completion = read_chat(parse_body(request.body), engine_, tool_form_);
  lock.unlock();
  return generate(request, std::move(completion), true);
}

HttpReply Server::Impl::complete(const HttpRequest& request) {
  std::unique_lock lock(reading_);
  Completion completion = read_completion(parse_body(request.body), engine_);
  lock.unlock();
  return generate(request, std::move(completion), false);
}

// The next event; nothing where the client has left. on_wait is called while there is none.
std::optional<Event> next(Exchange& exchange, const auto& on_wait) {
  for (;;) {
    if (std::optional<Event> event = exchange.mailbox->pop(look_around)) return event;
    if (!exchange.connected() || !on_wait()) return std::nullopt;
  }
}

// How the answers of a request are told.
struct Telling {
  Shape shape;
  uint32_t choices;
  std::string echo;
  ReplyParser reply;
  const char* form;  // the parameter that the constraint comes from
  bool usage;        // of a stream
};

HttpReply answer_whole(Exchange& exchange, const Telling& telling) {
  Usage usage;
  std::vector<Reports> reports(telling.choices);
  Answer answer;  // choices come one after the other
  ReplyParser parser = telling.reply;
  const auto add = [&](const std::vector<ReplyPart>& parts) {
    for (const ReplyPart& part : parts) answer.add(part);
  };
  Json list = Json::array();
  while (std::optional<Event> event = next(exchange, [] { return true; })) {
    switch (event->what) {
      case Event::What::report:
        reports[event->choice].push_back(std::move(event->report));
        break;
      case Event::What::text:
        add(parser.push(event->text));
        break;
      case Event::What::embedding:  // there are none
        break;
      case Event::What::choice:
        if (event->finish == Finish::cancelled) throw_cancelled(exchange);
        usage.add(*event);
        add(parser.finish());
        answer.content.insert(0, telling.echo);
        list.push_back(telling.shape.choice(event->choice, std::exchange(answer, {}),
                                            reports[event->choice], event->finish,
                                            parser.has_whole_calls()));
        parser = telling.reply;
        break;
      case Event::What::end:
        if (event->error) throw_failed(event->error, telling.form);
        return {.body = to_text(telling.shape.answer(std::move(list), usage))};
    }
  }
  throw_cancelled(exchange);
}

void answer_in_pieces(Exchange& exchange, const Telling& telling, const HttpReply::Write& write) {
  const Shape& shape = telling.shape;
  auto last = Clock::now();
  const auto send = [&](std::string_view text) {
    last = Clock::now();
    return write(text);
  };
  const auto send_json = [&](Json json) {
    if (telling.usage && !json.contains("usage")) json["usage"] = nullptr;
    return send(fmt::format("data: {}\n\n", to_text(json)));
  };
  const auto ping = [&] { return Clock::now() - last < ping_after || send(": ping\n\n"); };
  Usage usage;
  Reports reports;    // since the last chunk; choices come one after the other
  size_t offset = 0;  // characters of the choice
  Answer answer;
  ReplyParser parser = telling.reply;
  bool ok = true;
  const auto send_parts = [&](uint32_t choice, const std::vector<ReplyPart>& parts) {
    for (const ReplyPart& part : parts) {
      answer.add(part);
      ok = ok && send_json(shape.part_chunk(choice, part, answer, reports, offset));
      reports.clear();
    }
  };
  for (uint32_t i = 0; i < telling.choices; ++i) {
    if (shape.begins_with_role()) ok = ok && send_json(shape.role_chunk(i));
    if (!telling.echo.empty()) send_parts(i, {{ReplyPart::What::content, telling.echo}});
  }
  try {
    while (ok) {
      std::optional<Event> event = next(exchange, ping);
      if (!event) return;
      switch (event->what) {
        case Event::What::report:
          reports.push_back(std::move(event->report));
          break;
        case Event::What::text:
          send_parts(event->choice, parser.push(event->text));
          break;
        case Event::What::embedding:  // there are none
          break;
        case Event::What::choice:
          if (event->finish == Finish::cancelled) throw_cancelled(exchange);
          usage.add(*event);
          send_parts(event->choice, parser.finish());
          ok = ok && send_json(shape.end_chunk(event->choice, event->finish,
                                               parser.has_whole_calls(), reports, offset));
          reports.clear(), offset = 0, answer = {}, parser = telling.reply;
          break;
        case Event::What::end:
          if (event->error) throw_failed(event->error, telling.form);
          if (telling.usage) send_json(shape.usage_chunk(usage));
          send("data: [DONE]\n\n");
          return;
      }
    }
  } catch (const ApiError& error) {  // the status is sent already
    send(fmt::format("data: {}\n\n", error.json()));
  }
}

void Server::Impl::submit(Exchange& exchange, const HttpRequest& request, Task task) {
  exchange.connected = task.wanted = request.connected;
  task.on_end = [mailbox = exchange.mailbox](std::exception_ptr error) {
    mailbox->push({.what = Event::What::end, .error = std::move(error)});
  };
  exchange.ticket = worker_.submit(std::move(task));
  if (exchange.ticket) return;
  if (worker_.stopping()) throw ApiError(503, stopping, {}, "stopping");
  throw ApiError(503, fmt::format("{} requests are waiting, and no more may", options_.queue), {},
                 "queue_full");
}

HttpReply Server::Impl::embeddings(const HttpRequest& request) {
  std::unique_lock lock(reading_);
  Embeddings wanted = read_embeddings(parse_body(request.body), engine_);
  lock.unlock();
  uint64_t tokens = 0;
  for (const std::vector<uint32_t>& text : wanted.texts) tokens += text.size();

  Exchange exchange;
  const std::shared_ptr<Mailbox> mailbox = exchange.mailbox;
  const size_t count = wanted.texts.size();
  submit(
      exchange, request,
      {.texts = std::move(wanted.texts), .on_embedding = [mailbox](std::vector<float> embedding) {
         mailbox->push({.what = Event::What::embedding, .embedding = std::move(embedding)});
       }});
  Json data = Json::array();
  while (std::optional<Event> event = next(exchange, [] { return true; })) {
    if (event->error) throw_failed(event->error);
    if (event->what == Event::What::embedding) {
      data.push_back({{"object", "embedding"},
                      {"index", data.size()},
                      {"embedding", embedding_json(event->embedding, wanted.base64)}});
      continue;
    }
    if (data.size() < count) break;
    return {.body = to_text({{"object", "list"},
                             {"data", std::move(data)},
                             {"model", options_.model},
                             {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}})};
  }
  throw_cancelled(exchange);
}

HttpReply Server::Impl::generate(const HttpRequest& request, Completion completion, bool chat) {
  const auto exchange = std::make_shared<Exchange>();
  const std::shared_ptr<Mailbox> mailbox = exchange->mailbox;
  const bool logprobs = completion.request.logprobs >= 0;
  Task task{
      .prompt = std::move(completion.prompt),
      .request = std::move(completion.request),
      .choices = completion.choices,
      .on_report =
          [mailbox](uint32_t choice, const TokenReport& report) {
            mailbox->push({.what = Event::What::report, .choice = choice, .report = report});
          },
      .on_text =
          [mailbox](uint32_t choice, std::string_view text) {
            mailbox->push({.what = Event::What::text, .choice = choice, .text = std::string(text)});
          },
      .on_choice =
          [mailbox](uint32_t choice, const Generation& g) {
            mailbox->push({.what = Event::What::choice,
                           .choice = choice,
                           .finish = g.finish,
                           .prompt_tokens = g.prompt_tokens,
                           .cached_tokens = g.cached_tokens,
                           .generated_tokens = uint32_t(g.tokens.size())});
          }};
  submit(*exchange, request, std::move(task));
  const Telling telling{.shape = Shape(chat, logprobs, options_.model),
                        .choices = completion.choices,
                        .echo = std::move(completion.echo),
                        .reply = std::move(completion.reply),
                        .form = completion.form,
                        .usage = completion.stream_usage};
  if (!completion.stream) return answer_whole(*exchange, telling);
  return {.type = "text/event-stream",
          .body = {},
          .stream = [exchange, telling](const HttpReply::Write& write) {
            answer_in_pieces(*exchange, telling, write);
          }};
}

Server::Server(Engine& engine, ServerOptions options)
    : impl_(std::make_unique<Impl>(engine, std::move(options))) {}

Server::~Server() = default;
bool Server::is_local() const { return impl_->is_local(); }
uint16_t Server::port() const { return impl_->port(); }
void Server::run() { impl_->run(); }
void Server::stop() { impl_->stop(); }

}  // namespace ms
