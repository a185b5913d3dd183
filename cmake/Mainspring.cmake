# Mainspring.cmake: ms_layer and ms_tests, all that a layer's CMakeLists.txt needs.
include(GoogleTest)

# ms_layer(NAME [USES TARGET…]): the static library ms_NAME from this folder's *.cpp but its tests.
function(ms_layer name)
  cmake_parse_arguments(arg "" "" "USES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS *.cpp)
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  add_library(ms_${name} STATIC ${sources})
  target_include_directories(ms_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(ms_${name} PUBLIC fmt::fmt-header-only PRIVATE ${arg_USES})
endfunction()

# ms_tests(NAME [USES TARGET…]): the program NAME_test from this folder's *_test.cpp, each test known to ctest.
function(ms_tests name)
  cmake_parse_arguments(arg "" "" "USES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS *_test.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${name}_test ${sources})
  target_compile_definitions(${name}_test PRIVATE MS_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name}_test PRIVATE $<TARGET_NAME_IF_EXISTS:ms_${name}> ${arg_USES} GTest::gtest_main)
  gtest_discover_tests(${name}_test WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} DISCOVERY_TIMEOUT 60)
endfunction()
