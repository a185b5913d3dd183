// version.cpp: the version that the build gives the library.
#include "mainspring.hpp"

namespace ms {

std::string_view version() { return MS_VERSION; }

}  // namespace ms
