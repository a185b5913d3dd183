# Install.cmake: what `cmake --install` gives: one shared library with one header, its CMake package, the program.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Exported is what mainspring.hpp marks as visible; the layers below the engine are linked in and stay hidden.
add_library(mainspring SHARED $<TARGET_OBJECTS:ms_engine>)
target_include_directories(mainspring INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(mainspring INTERFACE cxx_std_20)
target_link_libraries(mainspring PRIVATE $<TARGET_PROPERTY:ms_engine,LINK_LIBRARIES>)
target_link_options(mainspring
  PRIVATE LINKER:--exclude-libs,ALL
  INTERFACE $<TARGET_PROPERTY:dawn::webgpu_dawn,INTERFACE_LINK_OPTIONS>)
set_target_properties(mainspring PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/mainspring)
configure_file(cmake/mainspringConfig.cmake.in mainspringConfig.cmake @ONLY)
write_basic_package_version_file(mainspringConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(TARGETS mainspring mainspring_program EXPORT mainspringTargets)
install(EXPORT mainspringTargets NAMESPACE mainspring:: DESTINATION ${package})
install(FILES include/mainspring.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES
  cmake/Dawn.cmake
  ${PROJECT_BINARY_DIR}/mainspringConfig.cmake
  ${PROJECT_BINARY_DIR}/mainspringConfigVersion.cmake
  DESTINATION ${package})
