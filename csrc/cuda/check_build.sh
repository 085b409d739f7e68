#!/usr/bin/env bash
# Builds the module of CUDA kernels for sm_90 in build/cuda, and all of csrc/math as device code: a header that no kernel
# includes must be in tests/cuda/functors.cu. Then kernel_table.py looks at what ptxas reports. Needs nvcc, cmake and, as
# PYTHON, a python with nanobind; no GPU. Where NEURFIELD_CUDA_REPORT is set, setup.py has built the module and left the
# report there.
# usage: check_build.sh [--write]   writes the table of docs/cuda.md instead of comparing it
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
report=${NEURFIELD_CUDA_REPORT:-}

for header in $(cd csrc && echo math/*.h); do
  grep -qF "#include \"$header\"" tests/cuda/functors.cu csrc/cuda/*.cu csrc/ops/*.h csrc/math/*.h \
    || { echo "no kernel and not tests/cuda/functors.cu uses $header" >&2; exit 1; }
done
if [ -z "$report" ]; then
  report=$PWD/build/cuda/report
  cmake -S csrc -B build/cuda -DNF_CUDA=ON "-DCMAKE_CUDA_COMPILER=$(command -v nvcc)" -DNF_CUDA_ARCHS=90 \
    "-DNF_CUDA_REPORT=$report" "-DPython_EXECUTABLE=$(command -v "$python")"
  cmake --build build/cuda --parallel "$(nproc)" --target _cuda
fi
nvcc -std=c++17 -arch=sm_90 -Icsrc -DNF_CUDA --fmad=false -Werror all-warnings -c tests/cuda/functors.cu -o /dev/null
echo "nvcc sm_90: csrc/math compiles as device code"
version=$(nvcc --version | sed -n 's/.*, V\([0-9.]*\)$/\1/p')
"$python" csrc/cuda/kernel_table.py "$report" "$version" "$@"
