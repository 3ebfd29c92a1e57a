# Helpers of the native build.

# Sets `out` to the name that Python, Bazel and the documents use for the target: linux_x86_64, linux_arm64, android_arm64, ...
function(tfq_platform out)
  string(TOLOWER "${CMAKE_SYSTEM_NAME}" system)
  string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
  if(processor MATCHES "^(aarch64|arm64|armv8.*)$")
    set(processor arm64)
  elseif(processor MATCHES "^(x86_64|amd64)$")
    set(processor x86_64)
  endif()
  set(${out} ${system}_${processor} PARENT_SCOPE)
endfunction()

# GoogleTest as gtest_main: from its sources, so that it is cross-compiled and sanitized like our own code; else as installed.
function(tfq_googletest)
  if(EXISTS ${TFQ_GOOGLETEST}/CMakeLists.txt)
    set(INSTALL_GTEST OFF CACHE INTERNAL "")
    add_subdirectory(${TFQ_GOOGLETEST} ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
    foreach(library gtest gmock)
      get_target_property(includes ${library} INTERFACE_INCLUDE_DIRECTORIES)
      set_target_properties(${library} PROPERTIES INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${includes}")
    endforeach()
    foreach(library gtest gtest_main gmock gmock_main)
      target_compile_options(${library} PRIVATE -O0)
      if(TFQ_SANITIZE)
        target_compile_options(${library} PRIVATE -fsanitize=${TFQ_SANITIZE})
      endif()
    endforeach()
  else()
    find_package(GTest REQUIRED)
    add_library(gtest_main ALIAS GTest::gtest_main)
    add_library(gmock ALIAS GTest::gmock)
  endif()
endfunction()

# One test program for each *_test.cc in `folder`; what else lies there is shared by them. They run in the project's root, as
# under Bazel, and so find tests/golden by the same relative path.
function(tfq_add_tests prefix folder library)
  file(GLOB shared CONFIGURE_DEPENDS ${folder}/*.cc)
  file(GLOB tests CONFIGURE_DEPENDS ${folder}/*_test.cc)
  list(REMOVE_ITEM shared ${tests} "")
  if(shared)
    add_library(${prefix}_test_support STATIC ${shared})
    target_link_libraries(${prefix}_test_support PUBLIC ${library} gmock)
    set(library ${prefix}_test_support)
  endif()
  foreach(test ${tests})
    get_filename_component(name ${test} NAME_WE)
    set(target ${prefix}_${name})
    add_executable(${target} ${test})
    target_link_libraries(${target} PRIVATE ${library} gmock gtest_main Threads::Threads ${CMAKE_DL_LIBS})
    add_test(NAME ${target} COMMAND ${target} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${target} PROPERTIES TIMEOUT 300)
  endforeach()
endfunction()

# Builds the project for another platform as well and installs its files beside the host's, so that a wheel can serve devices.
function(tfq_cross_build platform compiler)
  find_program(TFQ_CROSS_COMPILER ${compiler})
  if(NOT TFQ_CROSS_COMPILER)
    message(STATUS "No ${compiler}: built without ${platform}, so benchmarks on such a device need files built elsewhere")
    return()
  endif()
  include(ExternalProject)
  set(stage ${CMAKE_BINARY_DIR}/${platform}-stage)
  ExternalProject_Add(tfq_${platform}
    SOURCE_DIR ${PROJECT_SOURCE_DIR}
    BINARY_DIR ${CMAKE_BINARY_DIR}/${platform}
    INSTALL_DIR ${stage}
    CMAKE_ARGS
      -DCMAKE_TOOLCHAIN_FILE=${PROJECT_SOURCE_DIR}/cmake/${platform}.cmake
      -DCMAKE_BUILD_TYPE=${CMAKE_BUILD_TYPE}
      -DCMAKE_INSTALL_PREFIX=<INSTALL_DIR>
      -DTFQ_TESTS=OFF
    BUILD_ALWAYS ON)
  install(DIRECTORY ${stage}/ DESTINATION . USE_SOURCE_PERMISSIONS)
endfunction()
