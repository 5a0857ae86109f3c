# The tests of whole pipelines once more on the CUDA backend, over a driver that keeps device memory on the host
# (tests/support/fake_cuda.h) and the kernels' twins.
if((DAMACY_TESTS OR DAMACY_COVERAGE) AND TARGET dmc_cuda_twin AND TARGET dmc_pipeline)
  foreach(test IN ITEMS property multi_batch policies fields missing_shard native wait lifecycle)
    set(name test_${test}_cuda)
    add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/unit/pipeline/test_${test}.c)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE PW_CUDA)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${name} PRIVATE dmc_cuda_twin dmc_pipeline PkgConfig::cmocka)
    set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS "pipeline;cuda" TIMEOUT 300)
  endforeach()
endif()
