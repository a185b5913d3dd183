// http.cpp: cpp-httplib over connections of our own: with limits on heads, bodies and time, which
// it has not, and with an end that waits for no idle client.
#include "server/http.hpp"

#include <arpa/inet.h>
#include <httplib.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstring>

#include "base/error.hpp"

namespace ms {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t head_bytes = 64 << 10;  // of a request's line and headers
constexpr size_t body_bytes = 4 << 20;
constexpr size_t most_requests = 1000;  // of a connection
constexpr seconds head_time(20), body_time(120), silence(15), keep_alive(5), drain_time(2);

bool ready(int socket, short events, milliseconds wait) {
  pollfd entry = {socket, events, 0};
  return poll(&entry, 1, int(wait.count())) > 0;
}

class Connection : public httplib::Stream {
 public:
  Connection(int socket, const std::atomic<bool>& stopping)
      : socket_(socket), stopping_(stopping) {}

  // Whether there is a request to read within the time of an idle connection.
  bool wait_for_request() {
    for (const auto end = Clock::now() + keep_alive; Clock::now() < end && !stopping_;)
      if (buffered() || ready(socket_, POLLIN, milliseconds(50))) return true;
    return false;
  }
  void begin_request() {
    left_ = head_bytes;
    end_ = Clock::now() + head_time;
    too_large = closing = chunks = false;
  }
  void begin_body() {
    left_ = 2 * body_bytes;  // chunks have heads of their own
    end_ = Clock::now() + body_time;
  }
  bool connected() const {
#ifdef POLLRDHUP  // seen whatever it has sent before, too
    return !ready(socket_, POLLRDHUP, milliseconds(0));
#else
    if (buffered() || !ready(socket_, POLLIN, milliseconds(0))) return true;
    char byte;
    const ssize_t n = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
#endif
  }
  // Closing a socket with unread bytes would take the reply back that is on its way.
  void drain() {
    ::shutdown(socket_, SHUT_WR);
    for (const auto end = Clock::now() + drain_time; Clock::now() < end && !stopping_;)
      if (ready(socket_, POLLIN, milliseconds(50)) &&
          recv(socket_, buffer_, sizeof(buffer_), MSG_DONTWAIT) <= 0)
        return;
  }

  bool is_readable() const override { return buffered() || ready(socket_, POLLIN, silence); }
  bool is_writable() const override { return ready(socket_, POLLOUT, silence); }
  ssize_t read(char* to, size_t size) override {
    if (!buffered() && !fill()) return -1;
    size = std::min({size, filled_ - at_, left_});
    if (size == 0) {
      too_large = true;
      return -1;
    }
    std::memcpy(to, buffer_ + at_, size);
    at_ += size;
    left_ -= size;
    return ssize_t(size);
  }
  ssize_t write(const char* from, size_t size) override {
    for (const auto end = Clock::now() + silence; Clock::now() < end;) {
      const ssize_t n = send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n >= 0) return n;
      if (errno != EAGAIN && errno != EINTR) return -1;
      if (stopping_) return -1;
      ready(socket_, POLLOUT, milliseconds(100));
    }
    return -1;
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override { ip = "", port = 0; }
  void get_local_ip_and_port(std::string& ip, int& port) const override { ip = "", port = 0; }
  socket_t socket() const override { return socket_; }

  bool too_large = false;
  bool closing = false;  // after this reply
  bool chunks = false;   // the client takes a body in chunks

 private:
  bool buffered() const { return at_ < filled_; }
  bool fill() {
    const auto end = std::min(end_, Clock::now() + silence);
    while (Clock::now() < end && !stopping_) {
      if (!ready(socket_, POLLIN, milliseconds(50))) continue;
      const ssize_t n = recv(socket_, buffer_, sizeof(buffer_), MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      at_ = 0;
      filled_ = n > 0 ? size_t(n) : 0;
      return n > 0;
    }
    return false;
  }

  const int socket_;
  const std::atomic<bool>& stopping_;
  char buffer_[16 << 10];
  size_t at_ = 0, filled_ = 0, left_ = 0;
  Clock::time_point end_;
};

thread_local Connection* current = nullptr;  // a request is handled by its connection's thread

HttpRequest head_of(const httplib::Request& from) {
  return {.method = from.method == "HEAD" ? "GET" : from.method,
          .path = from.path,
          .host = from.get_header_value("Host"),
          .origin = from.get_header_value("Origin"),
          .authorization = from.get_header_value("Authorization"),
          .content_type = from.get_header_value("Content-Type"),
          .body = {},
          .connected = [connection = current] { return connection->connected(); }};
}

void give(HttpReply reply, httplib::Response& to) {
  to.status = reply.status;
  for (const auto& [name, value] : reply.headers) to.set_header(name, value);
  if (!reply.stream) return to.set_content(reply.body, reply.type);
  to.set_header("Cache-Control", "no-cache");
  const httplib::ContentProviderWithoutLength provider = [stream = std::move(reply.stream)](
                                                             size_t, httplib::DataSink& sink) {
    bool ok = true;
    try {
      stream([&](std::string_view piece) {
        return ok = ok && sink.write(piece.data(), piece.size());
      });
    } catch (const std::exception&) {  // httplib lets it end the program
      return false;                    // the client sees a reply without an end
    }
    if (ok) sink.done();
    return ok;
  };
  if (current->chunks) return to.set_chunked_content_provider(reply.type, provider);
  current->closing = true;  // which ends the body
  to.set_content_provider(reply.type, provider);
}

}  // namespace

class HttpServer::Impl : public httplib::Server {
 public:
  Impl(const std::string& host, uint16_t port, size_t threads, HttpHandlers handlers)
      : handlers_(std::move(handlers)) {
    new_task_queue = [threads] { return new httplib::ThreadPool(threads); };
    set_socket_options([](socket_t socket) {  // without REUSEPORT: two servers would share a port
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
    set_payload_max_length(body_bytes);
    set_keep_alive_timeout(keep_alive.count());
    set_keep_alive_max_count(most_requests);
    set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      return begin(request, response);
    });
    // Of POSTs, those alone come here whose path the handler knows.
    Post("/.*",
         [this](const httplib::Request& request, httplib::Response& response,
                const httplib::ContentReader& content) { answer(request, response, content); });
    set_error_handler([this](const httplib::Request&, httplib::Response& response) {
      if (response.body.empty()) say_what_is_wrong(response);
    });
    set_post_routing_handler([](const httplib::Request&, httplib::Response& response) {
      if (!current->closing) return;
      response.headers.erase("Connection");
      response.headers.erase("Keep-Alive");
      response.set_header("Connection", "close");
    });
    const int bound = port ? (bind_to_port(host, port) ? port : -1) : bind_to_any_port(host);
    if (bound < 0)
      fail("cannot listen on {} port {}: {}", host, port,
           "it is in use, or no address of this machine; --host and --port name another");
    port_ = uint16_t(bound);
    ::listen(svr_sock_, SOMAXCONN);  // httplib lets five connections wait
  }

  std::string address() const {
    sockaddr_storage bound = {};
    socklen_t size = sizeof(bound);
    auto* const any = reinterpret_cast<sockaddr*>(&bound);
    char text[NI_MAXHOST] = "";
    getsockname(svr_sock_, any, &size);
    getnameinfo(any, size, text, sizeof(text), nullptr, 0, NI_NUMERICHOST);
    return text;
  }
  uint16_t port() const { return port_; }
  void run() {
    if (!listen_after_bind() && !stopping_) fail("the server's socket failed: it takes no more");
  }
  // httplib's own stop() does nothing before run() has come to its loop.
  void halt() {
    stopping_ = true;
    const socket_t socket = svr_sock_.exchange(INVALID_SOCKET);
    if (socket == INVALID_SOCKET) return;
    ::shutdown(socket, SHUT_RDWR);
    ::close(socket);
  }

 private:
  // A head has come. A POST that is not refused goes on to have its body read.
  HandlerResponse begin(const httplib::Request& from, httplib::Response& response) {
    const HttpRequest request = head_of(from);
    const bool chunked = from.has_header("Transfer-Encoding");
    const std::string length = from.get_header_value("Content-Length");
    // A body that is not read would be taken for the next request.
    current->chunks = from.version != "HTTP/1.0";
    current->closing = chunked || (!length.empty() && length != "0");
    const auto refuse = [&](int status, std::string_view message) {
      current->closing = true;
      give({.status = status, .body = handlers_.error_body(status, message)}, response);
      return HandlerResponse::Handled;
    };
    if (std::optional<HttpReply> refusal = handlers_.refuse(request)) {
      give(std::move(*refusal), response);
      return HandlerResponse::Handled;
    }
    if (request.method != "POST") {
      give(handlers_.answer(request), response);
      return HandlerResponse::Handled;
    }
    if (chunked && (from.get_header_value("Transfer-Encoding") != "chunked" || !length.empty()))
      return refuse(400, "a body has a Content-Length or is \"chunked\"");
    if (!chunked && length.empty()) return refuse(411, "the body has no Content-Length");
    uint64_t bytes = 0;
    const char* const end = length.data() + length.size();
    const auto [rest, error] = std::from_chars(length.data(), end, bytes);
    if (!length.empty() && (error == std::errc::invalid_argument || rest != end))
      return refuse(400, "Content-Length is no number");
    if (error == std::errc::result_out_of_range || bytes > body_bytes)
      return refuse(413, fmt::format("the body has {} bytes; {} are taken", length, body_bytes));
    current->begin_body();
    return HandlerResponse::Unhandled;
  }

  void answer(const httplib::Request& from, httplib::Response& response,
              const httplib::ContentReader& content) {
    HttpRequest request = head_of(from);
    bool fits = true;
    const bool whole = content([&](const char* bytes, size_t count) {
      fits = request.body.size() + count <= body_bytes;
      if (fits) request.body.append(bytes, count);
      return fits;
    });
    current->closing = !whole;
    if (whole) return give(handlers_.answer(request), response);
    const int status = fits ? 400 : 413;
    const std::string message =
        fits ? "the body breaks off" : fmt::format("the body has more than {} bytes", body_bytes);
    give({.status = status, .body = handlers_.error_body(status, message)}, response);
  }

  void say_what_is_wrong(httplib::Response& response) const {
    current->closing = true;
    if (current->too_large && response.status == 400) response.status = 431;
    const char* const message = response.status == 431   ? "the request's headers are too long"
                                : response.status == 414 ? "the address is too long"
                                                         : "this is no request that HTTP knows";
    response.set_content(handlers_.error_body(response.status, message), "application/json");
  }
  bool process_and_close_socket(socket_t socket) override;

  HttpHandlers handlers_;
  std::atomic<bool> stopping_ = false;
  uint16_t port_ = 0;
};

bool HttpServer::Impl::process_and_close_socket(socket_t socket) {
  const int yes = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  {
    Connection connection(socket, stopping_);
    current = &connection;
    // Parts are for files; nothing is compressed, which costs more than it saves here.
    const auto prepare = [](httplib::Request& request) {
      request.ranges.clear();
      request.headers.erase("Range");
      request.headers.erase("Accept-Encoding");
    };
    for (size_t left = most_requests; left > 0 && connection.wait_for_request(); --left) {
      connection.begin_request();
      const bool last = left == 1;
      bool closed = false;
      const auto process = [&](auto& stream) {
        if constexpr (requires { this->process_request(stream, last, closed, prepare); })
          return this->process_request(stream, last, closed, prepare);
        else  // from httplib 0.16 on
          return this->process_request(stream, "", 0, "", 0, last, closed, prepare);
      };
      if (!process(connection) || closed || connection.closing) break;
    }
    connection.drain();
    current = nullptr;
  }
  ::close(socket);
  return true;
}

bool is_loopback(const std::string& host) {
  in_addr four;
  in6_addr six;
  if (inet_pton(AF_INET, host.c_str(), &four) == 1) return ntohl(four.s_addr) >> 24 == 127;
  if (inet_pton(AF_INET6, host.c_str(), &six) == 1)
    return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
  return strcasecmp(host.c_str(), "localhost") == 0;
}

HttpServer::HttpServer(const std::string& host, uint16_t port, size_t threads,
                       HttpHandlers handlers)
    : impl_(std::make_unique<Impl>(host, port, threads, std::move(handlers))) {}

HttpServer::~HttpServer() { impl_->halt(); }
std::string HttpServer::address() const { return impl_->address(); }
uint16_t HttpServer::port() const { return impl_->port(); }
void HttpServer::run() { impl_->run(); }
void HttpServer::stop() { impl_->halt(); }

}  // namespace ms
