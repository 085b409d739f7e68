#!/usr/bin/env bash
# Compiles every CUDA source for sm_90, and tests/cuda/functors.cu, which must use every header of csrc/math. Needs
# nvcc, no GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for header in math/*.h; do
  grep -qF "#include \"$header\"" ../tests/cuda/functors.cu || { echo "tests/cuda/functors.cu does not use $header" >&2; exit 1; }
done
flags=(-std=c++17 -arch=sm_90 -I. -DNF_CUDA --fmad=false -Werror all-warnings -Xptxas -v)
for source in cuda/*.cu ../tests/cuda/functors.cu; do
  nvcc "${flags[@]}" -c "$source" -o "$work/object.o" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  echo "nvcc sm_90: $(basename "$source") compiles"
done
