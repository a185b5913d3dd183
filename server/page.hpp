// page.hpp: the files of the chat page, which the build takes from server/page/.
#pragma once
#include <string_view>

namespace ms {

struct PageFile {
  const char *path, *type;  // "/chat.css", "text/css"; the page itself is "/"
  std::string_view text;
};

// Null where there is none of this path.
const PageFile* page_file(std::string_view path);

}  // namespace ms
