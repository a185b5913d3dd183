// http.hpp: HTTP/1.1 on a port: bounds what a client may send and how long it may take, and knows
// when it has left. A thread for each connection; what is said is the handler's affair.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ms {

struct HttpRequest {
  std::string method, path;  // HEAD counts as GET; the path is decoded, without its query
  std::string host, origin, authorization, content_type;  // headers; empty without them
  std::string body;
  // Whether the client is still there. For any thread, until the reply has ended.
  std::function<bool()> connected;
};

struct HttpReply {
  // Sends a piece; false: the client has gone.
  using Write = std::function<bool(std::string_view)>;

  int status = 200;
  std::string type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};
  // Instead of a body: called once to write it, or destroyed.
  std::function<void(const Write&)> stream = {};
};

struct HttpHandlers {
  // Before a body is read: a reply that makes that needless.
  std::function<std::optional<HttpReply>(const HttpRequest&)> refuse;
  std::function<HttpReply(const HttpRequest&)> answer;
  // The body of a reply to what HTTP itself forbids.
  std::function<std::string(int status, std::string_view message)> error_body;
};

// Whether a name or an address is this machine's for itself: localhost, 127.0.0.0/8 (mapped into
// IPv6, too), ::1.
bool is_loopback(const std::string& host);

class HttpServer {
 public:
  // Listens, on any free port for 0. Throws Error where it cannot.
  HttpServer(const std::string& host, uint16_t port, size_t threads, HttpHandlers handlers);
  ~HttpServer();

  std::string address() const;  // that it listens at, as a number
  uint16_t port() const;
  void run();   // until stop(), and until what was begun has ended
  void stop();  // by any thread, at any time

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ms
