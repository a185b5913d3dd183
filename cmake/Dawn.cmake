# Dawn.cmake: the target dawn::webgpu_dawn, from an installed Dawn (Dawn_DIR) or else from MAINSPRING_DAWN_PREFIX.
# Installed beside mainspringConfig.cmake too, so that users of the library link as its own program does.
# A prefix holds a C library that is newer than the system's; what links against it runs on the prefix's own loader.
if(TARGET dawn::webgpu_dawn)
  return()
endif()
find_package(Dawn QUIET)
if(TARGET dawn::webgpu_dawn)
  return()
endif()
if(NOT EXISTS ${MAINSPRING_DAWN_PREFIX}/lib/libwebgpu_dawn.so)
  message(FATAL_ERROR "No Dawn: neither an installed one (set Dawn_DIR to the folder of its DawnConfig.cmake) nor "
    "${MAINSPRING_DAWN_PREFIX}, which tools/get-dawn makes.")
endif()

add_library(dawn::webgpu_dawn SHARED IMPORTED)
set_target_properties(dawn::webgpu_dawn PROPERTIES
  IMPORTED_LOCATION ${MAINSPRING_DAWN_PREFIX}/lib/libwebgpu_dawn.so
  IMPORTED_SONAME libwebgpu_dawn.so.0
  INTERFACE_INCLUDE_DIRECTORIES ${MAINSPRING_DAWN_PREFIX}/include)
# RPATH, not RUNPATH, which would not reach the libraries that Dawn itself needs.
target_link_options(dawn::webgpu_dawn INTERFACE
  LINKER:--allow-shlib-undefined,--disable-new-dtags
  LINKER:-rpath,${MAINSPRING_DAWN_PREFIX}/lib
  LINKER:--dynamic-linker=${MAINSPRING_DAWN_PREFIX}/lib/ld.so)
