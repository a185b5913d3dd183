# Install.cmake: what `cmake --install` gives: the library with its one header, the kernels alone with theirs, the CMake
# package of both, the program.
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

# The kernels alone, static: mainspring/kernels.hpp and the headers that it includes, in folders as here.
add_library(mainspring_kernels STATIC $<TARGET_OBJECTS:ms_kernels> $<TARGET_OBJECTS:ms_gpu> $<TARGET_OBJECTS:ms_base>)
add_library(mainspring::kernels ALIAS mainspring_kernels)
target_include_directories(mainspring_kernels INTERFACE
  "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR};${PROJECT_SOURCE_DIR}/include>"
  "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR};${CMAKE_INSTALL_INCLUDEDIR}/mainspring>")
target_compile_features(mainspring_kernels INTERFACE cxx_std_20)
target_link_libraries(mainspring_kernels INTERFACE fmt::fmt-header-only Threads::Threads dawn::webgpu_dawn)
set_target_properties(mainspring_kernels PROPERTIES EXPORT_NAME kernels)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/mainspring)
configure_file(cmake/mainspringConfig.cmake.in mainspringConfig.cmake @ONLY)
write_basic_package_version_file(mainspringConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(TARGETS mainspring mainspring_program EXPORT mainspringTargets)
install(EXPORT mainspringTargets NAMESPACE mainspring:: DESTINATION ${package})
install(FILES include/mainspring.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS mainspring_kernels EXPORT mainspringKernelsTargets)
install(EXPORT mainspringKernelsTargets NAMESPACE mainspring:: DESTINATION ${package})
install(DIRECTORY include/mainspring/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mainspring)
install(DIRECTORY base gpu kernels DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mainspring FILES_MATCHING PATTERN "*.hpp"
  PATTERN shared EXCLUDE
  REGEX "/(lab|migration|room|test_[a-z]+|handle|pipelines|blob_cache)\\.hpp$" EXCLUDE)
install(FILES
  cmake/Dawn.cmake
  ${PROJECT_BINARY_DIR}/mainspringConfig.cmake
  ${PROJECT_BINARY_DIR}/mainspringConfigVersion.cmake
  DESTINATION ${package})
