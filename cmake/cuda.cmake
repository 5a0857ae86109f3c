# CUDA: the kernels as one fatbin inside the library (target dmc_cuda_module).
#
# All src/backend/cuda/**/*.cu are compiled to one module (through a file that includes them all), which .incbin embeds as
# dmc_cuda_fatbin. Nothing of CUDA is linked: the driver is loaded at run time. Without nvcc the rest still builds.

option(DAMACY_CUDA "Build the CUDA kernels, if nvcc is there" ON)
set(DAMACY_CUDA_FOUND OFF)
file(GLOB_RECURSE DAMACY_CUDA_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backend/cuda/*.cu)
file(GLOB_RECURSE DAMACY_CUDA_HEADERS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backend/*.cuh ${PROJECT_SOURCE_DIR}/src/backend/*.h)
if(DAMACY_CUDA AND DAMACY_CUDA_SOURCES)
  find_program(DAMACY_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(DAMACY_NVCC)
    set(DAMACY_CUDA_FOUND ON)
    get_filename_component(DAMACY_NVCC_FOLDER ${DAMACY_NVCC} REALPATH)
    get_filename_component(DAMACY_NVCC_FOLDER ${DAMACY_NVCC_FOLDER} DIRECTORY)
  else()
    message(STATUS "CUDA is left out: no nvcc was found (set CUDACXX or CUDA_HOME to where it is)")
  endif()
else()
  message(STATUS "CUDA is left out")
endif()

if(DAMACY_CUDA_FOUND)
  set(folder ${PROJECT_BINARY_DIR}/cuda)
  set(all "")
  foreach(source IN LISTS DAMACY_CUDA_SOURCES)
    string(APPEND all "#include \"${source}\"\n")
  endforeach()
  file(CONFIGURE OUTPUT ${folder}/kernels.cu CONTENT "${all}" @ONLY)
  file(CONFIGURE OUTPUT ${folder}/fatbin.S @ONLY CONTENT [[
.section .rodata.dmc_cuda_fatbin, "a"
.balign 64
.globl dmc_cuda_fatbin
.hidden dmc_cuda_fatbin
.type dmc_cuda_fatbin, %object
dmc_cuda_fatbin:
.incbin "@folder@/kernels.fatbin"
.size dmc_cuda_fatbin, . - dmc_cuda_fatbin
.section .note.GNU-stack, "", %progbits
]])
  set(architectures)
  foreach(arch IN ITEMS 80 86 89 90 100 120)
    list(APPEND architectures -gencode arch=compute_${arch},code=sm_${arch})
  endforeach()
  list(APPEND architectures -gencode arch=compute_80,code=compute_80)
  # -fmad=false: conversions are defined to the bit, and the CPU's loops do not contract either.
  add_custom_command(OUTPUT ${folder}/kernels.fatbin
    COMMAND ${DAMACY_NVCC} -std=c++17 -O3 -fmad=false -I${PROJECT_SOURCE_DIR}/src -I${PROJECT_SOURCE_DIR}/include
      ${architectures} --fatbin -Xfatbin -compress-all -o ${folder}/kernels.fatbin ${folder}/kernels.cu
    DEPENDS ${folder}/kernels.cu ${DAMACY_CUDA_SOURCES} ${DAMACY_CUDA_HEADERS}
    COMMENT "CUDA kernels for sm_80, 86, 89, 90, 100, 120 and PTX" VERBATIM)
  enable_language(ASM)
  set_source_files_properties(${folder}/fatbin.S PROPERTIES OBJECT_DEPENDS ${folder}/kernels.fatbin GENERATED ON)
  add_library(dmc_cuda_module STATIC ${folder}/fatbin.S)
  set_target_properties(dmc_cuda_module PROPERTIES COMPILE_OPTIONS "" LINKER_LANGUAGE C)
  target_compile_definitions(dmc_cuda_module PUBLIC DMC_CUDA_KERNELS=1)
endif()
