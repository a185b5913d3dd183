// http.cpp: one GET after the other through libcurl.
#include "hub/http.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <exception>
#include <memory>

namespace ms {

namespace {

constexpr int most_redirects = 10;
constexpr size_t kept_error = 4096;        // bytes of a failure's body
constexpr size_t most_headers = 64 << 10;  // bytes of one answer's headers
constexpr long connect_seconds = 20;

struct Free {
  void operator()(CURL* p) const { curl_easy_cleanup(p); }
  void operator()(CURLU* p) const { curl_url_cleanup(p); }
  void operator()(curl_slist* p) const { curl_slist_free_all(p); }
  void operator()(char* p) const { curl_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

// Scheme, host and port; empty for what is no URL of HTTP.
std::string origin_of(const std::string& url) {
  const Owned<CURLU> parsed(curl_url());
  if (!parsed || curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return {};
  const auto part = [&](CURLUPart which, unsigned flags) {
    char* text = nullptr;
    curl_url_get(parsed.get(), which, &text, flags);
    const Owned<char> owned(text);
    return std::string(text ? text : "");
  };
  const std::string scheme = part(CURLUPART_SCHEME, 0), host = part(CURLUPART_HOST, 0);
  if ((scheme != "http" && scheme != "https") || host.empty()) return {};
  return fmt::format("{}://{}:{}", scheme, host, part(CURLUPART_PORT, CURLU_DEFAULT_PORT));
}

// One request, as its callbacks see it.
struct Request {
  CURL* curl;
  HttpAnswer& answer;
  const std::function<void(const HttpAnswer&)>& begin;
  const std::function<void(std::string_view)>& data;
  size_t header_bytes = 0;
  bool begun = false;
  std::exception_ptr thrown = nullptr;

  void start() {
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
    begun = true;
    if (answer.ok() && begin) begin(answer);
  }
};

size_t on_header(char* bytes, size_t, size_t count, void* user) {
  Request& request = *static_cast<Request*>(user);
  std::string_view line(bytes, count);
  if (line.starts_with("HTTP/")) request.header_bytes = 0;
  request.header_bytes += count;
  if (request.header_bytes > most_headers) return 0;
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return count;
  std::string name(line.substr(0, colon));
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? char(c + ('a' - 'A')) : c;
  line.remove_prefix(colon + 1);
  constexpr std::string_view blanks = " \t\r\n";
  line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
  line = line.substr(0, line.find_last_not_of(blanks) + 1);
  request.answer.headers[name] = line;
  return count;
}

size_t on_data(char* bytes, size_t, size_t count, void* user) {
  Request& request = *static_cast<Request*>(user);
  try {
    if (!request.begun) request.start();
    const std::string_view piece(bytes, count);
    std::string& error = request.answer.error_body;
    if (request.answer.ok())
      request.data(piece);
    else
      error += piece.substr(0, kept_error - std::min(kept_error, error.size()));
  } catch (...) {
    request.thrown = std::current_exception();
    return 0;
  }
  return count;
}

[[noreturn]] void fail_with(CURLcode code, const std::string& url, const char* details,
                            uint32_t stall_seconds) {
  const std::string what = *details ? details : curl_easy_strerror(code);
  const std::string origin = origin_of(url);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      throw NetworkError(fmt::format("cannot reach {}: {}; is there a network?", origin, what),
                         true);
    case CURLE_COULDNT_CONNECT:
      throw NetworkError(fmt::format("cannot reach {}: {}", origin, what), true);
    case CURLE_OPERATION_TIMEDOUT:
      throw NetworkError(
          fmt::format("{} sent nothing for {} seconds ({})", origin, stall_seconds, what), false);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      fail("the certificate of {} is not trusted: {}", origin, what);
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
      fail("cannot fetch {:?}: {}", url, what);
    default:
      throw NetworkError(fmt::format("the connection to {} broke: {}", origin, what), false);
  }
}

}  // namespace

std::string_view HttpAnswer::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string_view() : found->second;
}

Http::Http(std::string endpoint, std::string token, uint32_t stall_seconds)
    : endpoint_(std::move(endpoint)), token_(std::move(token)), stall_seconds_(stall_seconds) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) fail("libcurl does not start: {}", curl_easy_strerror(ready));
  while (endpoint_.ends_with('/')) endpoint_.pop_back();
  origin_ = origin_of(endpoint_);
  require(!origin_.empty() && endpoint_.find_first_of("?# ") == std::string::npos,
          "the hub's address (HF_ENDPOINT) is \"{}\": want a URL like https://hub.example.org",
          endpoint_);
  require(std::ranges::all_of(token_, [](char c) { return c > ' ' && c < 127; }),
          "HF_TOKEN holds blanks or characters that no token has");
}

HttpAnswer Http::get(const std::string& url, uint64_t from,
                     const std::function<void(const HttpAnswer&)>& begin,
                     const std::function<void(std::string_view)>& data) const {
  HttpAnswer answer{.url = url};
  const Owned<CURL> curl(curl_easy_init());
  if (!curl) fail("libcurl does not start");
  for (int redirects = 0;; ++redirects) {
    if (redirects > most_redirects)
      fail("{:?} redirects more than {} times, the last time to {:?}", url, most_redirects,
           answer.url);
    const std::string origin = origin_of(answer.url);
    if (origin.empty() || (origin_.starts_with("https:") && !origin.starts_with("https:")))
      fail("{:?} redirects to {:?}, which is not asked: no https", url, answer.url);

    curl_easy_reset(curl.get());
    Request request{curl.get(), answer, begin, data};
    char details[CURL_ERROR_SIZE] = "";
    Owned<curl_slist> headers;
    if (!token_.empty() && origin == origin_)
      headers.reset(curl_slist_append(nullptr, ("Authorization: Bearer " + token_).c_str()));
    const auto set = [&](CURLoption option, auto value) {
      const CURLcode code = curl_easy_setopt(curl.get(), option, value);
      if (code != CURLE_OK) fail("libcurl refuses an option: {}", curl_easy_strerror(code));
    };
    set(CURLOPT_URL, answer.url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_USERAGENT, "mainspring/" MS_VERSION);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_ERRORBUFFER, details);
    set(CURLOPT_CONNECTTIMEOUT, connect_seconds);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, long(stall_seconds_));
    set(CURLOPT_HEADERFUNCTION, on_header);
    set(CURLOPT_HEADERDATA, &request);
    set(CURLOPT_WRITEFUNCTION, on_data);
    set(CURLOPT_WRITEDATA, &request);
    if (headers) set(CURLOPT_HTTPHEADER, headers.get());
    const std::string range = fmt::format("{}-", from);
    if (from) set(CURLOPT_RANGE, range.c_str());

    const CURLcode code = curl_easy_perform(curl.get());
    if (request.thrown) std::rethrow_exception(request.thrown);
    if (code != CURLE_OK) fail_with(code, answer.url, details, stall_seconds_);
    if (!request.begun) request.start();
    const char* next = nullptr;
    curl_easy_getinfo(curl.get(), CURLINFO_REDIRECT_URL, &next);
    if (answer.status < 300 || answer.status >= 400 || !next) return answer;
    answer.url = next;
    answer.error_body.clear();
  }
}

std::string url_path(std::string_view path) {
  std::string escaped;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~/").find(c) != std::string_view::npos;
    escaped += plain ? std::string(1, c) : fmt::format("%{:02X}", uint8_t(c));
  }
  return escaped;
}

}  // namespace ms
