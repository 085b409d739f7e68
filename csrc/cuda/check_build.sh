#!/usr/bin/env bash
# Compiles every CUDA source, and every header of csrc/math as device code, for sm_90. Needs nvcc, no GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for header in math/*.h; do printf '#include "%s"\n' "$header"; done > "$work/math.cu"
flags=(-std=c++17 -arch=sm_90 -I. --fmad=false -Werror all-warnings -Xptxas -warn-spills)
for source in "$work/math.cu" $(find cuda -name '*.cu'); do
  nvcc "${flags[@]}" -c "$source" -o "$work/object.o"
  echo "nvcc sm_90: $(basename "$source") compiles"
done
