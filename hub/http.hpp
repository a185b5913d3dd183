// http.hpp: GET over HTTP as a hub of models answers it: redirects to other hosts, ranges, a token.
//
// The token goes to the origin of the endpoint (scheme, host, port) and to no other.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace ms {

// The connection failed, or broke: another try may succeed.
struct NetworkError : Error {
  NetworkError(const std::string& message, bool never_reached)
      : Error(message), unreachable(never_reached) {}
  bool unreachable;  // there is no such host here, or it does not answer
};

struct HttpAnswer {
  std::string url;  // that answered, after redirects
  long status = 0;
  std::map<std::string, std::string> headers = {};  // names in lower case; redirects' come first
  std::string error_body = {};                      // of a status that is no success, its beginning

  bool ok() const { return status >= 200 && status < 300; }
  std::string_view header(const std::string& name) const;  // "" where there is none
};

class Http {
 public:
  // Throws std::invalid_argument for an endpoint that is no http or https URL, and for a token that
  // cannot stand in a header. A connection that brings nothing for so many seconds counts as
  // broken.
  Http(std::string endpoint, std::string token, uint32_t stall_seconds);

  // Fetches a URL from this byte on. `begin` gets a successful answer before its body, `data` the
  // body in pieces; both may throw. Throws NetworkError, or Error where another try is of no use.
  HttpAnswer get(const std::string& url, uint64_t from,
                 const std::function<void(const HttpAnswer&)>& begin,
                 const std::function<void(std::string_view)>& data) const;

  const std::string& endpoint() const { return endpoint_; }  // without a slash at its end
  bool has_token() const { return !token_.empty(); }

 private:
  std::string endpoint_, origin_, token_;
  uint32_t stall_seconds_;
};

// A path as it stands in a URL: "a b/c" is "a%20b/c".
std::string url_path(std::string_view path);

}  // namespace ms
