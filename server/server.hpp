// server.hpp: a model behind OpenAI's HTTP API.
//
// One generation at a time: requests wait in a bounded queue. A client that leaves ends its own.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "engine/engine.hpp"

namespace ms {

struct ServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;  // 0: any that is free
  std::string model;     // its name in the API
  std::string api_key;   // empty: anyone may ask
  size_t queue = 64;     // requests that may wait
  bool log = false;      // a line on stderr for each request, without its text
};

class Server {
 public:
  // Listens: what comes waits until run(). Throws Error where it cannot.
  Server(Engine& engine, ServerOptions options);
  ~Server();

  bool is_local() const;  // no other machine can reach it
  uint16_t port() const;
  void run();   // until stop()
  void stop();  // by any thread; generations are cancelled

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ms
