#!/usr/bin/env bash
# Compiles every CUDA source for sm_90, functors.cu among them, which must use every header of csrc/math. Needs nvcc, no
# GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for header in math/*.h; do
  grep -qF "#include \"$header\"" cuda/functors.cu || { echo "cuda/functors.cu does not use $header" >&2; exit 1; }
done
flags=(-std=c++17 -arch=sm_90 -I. --fmad=false -Werror all-warnings -Xptxas -warn-spills)
for source in cuda/*.cu; do
  nvcc "${flags[@]}" -c "$source" -o "$work/object.o"
  echo "nvcc sm_90: $(basename "$source") compiles"
done
