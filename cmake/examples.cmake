# Examples that run as tests: over the shared library and nothing but the public header, as a user's program would be.
if(DAMACY_TESTS AND TARGET damacy)
  add_executable(exotic_codec ${PROJECT_SOURCE_DIR}/examples/exotic_codec.c)
  target_link_libraries(exotic_codec PRIVATE damacy)
  add_test(NAME example_exotic_codec COMMAND exotic_codec ${PROJECT_BINARY_DIR})
endif()
