// stop.hpp: stop strings in a stream of text: what may be shown now, and whether one has come.
//
// Text that could still become a stop string is held back, so none of it is ever shown.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace ms {

class StopMatcher {
 public:
  // Empty strings are ignored.
  explicit StopMatcher(std::vector<std::string> stops);

  // What may be shown of the text so far. After a stop: what stood before it, then nothing ever
  // more.
  std::string push(std::string_view text);
  // The end of the stream: what was held back.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace ms
