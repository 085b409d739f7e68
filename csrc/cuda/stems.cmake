# The stems that have CUDA kernels: those of which there is a csrc/cuda/STEM.cu and a csrc/bindings/STEM.cpp. Sets
#   NF_KERNELS   every csrc/cuda/*.cu
#   NF_BINDINGS  the bindings of these stems
# and writes a line NF_STEM(stem) for each to stems.h in the build folder, which a module names its bindings by.
file(GLOB NF_KERNELS CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/*.cu")
set(NF_BINDINGS "")
set(NF_STEM_LINES "")
foreach(kernel ${NF_KERNELS})
  get_filename_component(stem ${kernel} NAME_WE)
  set(binding "${CMAKE_CURRENT_LIST_DIR}/../bindings/${stem}.cpp")
  if(EXISTS "${binding}")
    list(APPEND NF_BINDINGS "${binding}")
    string(APPEND NF_STEM_LINES "NF_STEM(${stem})\n")
  endif()
endforeach()
file(GENERATE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/stems.h" CONTENT "${NF_STEM_LINES}")
