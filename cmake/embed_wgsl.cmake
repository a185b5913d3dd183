# embed_wgsl.cmake: writes OUTPUT, a C++ file that holds the texts of FILES and lists the kernel rooms among them.
# A file's name is its text's name: kernels/rmsnorm/rmsnorm.wgsl is "rmsnorm"; that makes its folder a room.
set(names)
foreach(file ${FILES})
  cmake_path(GET file STEM LAST_ONLY name)
  if(DEFINED path_${name})
    message(FATAL_ERROR "two WGSL files have the name ${name}")
  endif()
  list(APPEND names ${name})
  set(path_${name} ${file})
endforeach()
list(SORT names)

set(texts)
set(declarations)
set(kernels)
foreach(name ${names})
  file(READ ${path_${name}} text)
  string(APPEND texts "    {\"${name}\", R\"wgsl(${text})wgsl\"},\n")
  if(path_${name} MATCHES "/${name}/${name}\\.wgsl$")
    string(APPEND declarations "extern const gpu::Kernel ${name}_kernel;\n")
    string(APPEND kernels "    &${name}_kernel,\n")
  endif()
endforeach()
file(WRITE ${OUTPUT} "// Made by embed_wgsl.cmake.
#include \"kernels/kernels.hpp\"
#include \"kernels/sources.hpp\"

#include <vector>

namespace ms {

${declarations}
std::span<const WgslSource> wgsl_sources() {
  static const std::vector<WgslSource> sources = {
${texts}  };
  return sources;
}

std::span<const gpu::Kernel* const> all_kernels() {
  static const std::vector<const gpu::Kernel*> kernels = {
${kernels}  };
  return kernels;
}

}  // namespace ms
")
