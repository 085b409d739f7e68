# A toolchain for wheels that run wherever glibc is at least this old, as PyTorch's do (PEP 600): Clang with the headers and
# symbols of that glibc, as Zig brings them, from the packages of requirements-wheel.txt. `make wheel` uses it.
set(CMAKE_CXX_COMPILER python-zig c++ -target ${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu.2.28)
# Python's headers ask the C library for more than Zig does; Debian's lie in part behind the path of the system, where
# Zig does not look for another system.
set(CMAKE_CXX_FLAGS_INIT "-Wno-macro-redefined -idirafter /usr/include")
# Zig's own support library would take the place of the C library's memcpy, sinf and others; its exp2f rounds differently.
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-nostdlib -lc++ -lc -lm -lpthread")
