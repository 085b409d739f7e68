#!/usr/bin/env bash
# Compiles every CUDA source for sm_90, and all of csrc/math as device code: a header that no kernel includes must be in
# tests/cuda/functors.cu. Then kernel_table.py looks at what ptxas reports. Needs nvcc and python3, no GPU.
# usage: check_build.sh [--write]   writes the table of docs/cuda.md instead of comparing it
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for header in math/*.h; do
  grep -qF "#include \"$header\"" ../tests/cuda/functors.cu cuda/*.cu ops/*.h math/*.h \
    || { echo "no kernel and not tests/cuda/functors.cu uses $header" >&2; exit 1; }
done
flags=(-std=c++17 -arch=sm_90 -I. -DNF_CUDA --fmad=false -Werror all-warnings)
compile() {
  local stem
  stem=$(basename "$1" .cu)
  nvcc "${flags[@]}" -Xptxas -v --keep --keep-dir "$work/$stem" -c "$1" -o "$work/$stem/object.o" 2>"$work/$stem.log" \
    || { cat "$work/$stem.log" >&2; return 1; }
  mv "$work/$stem/$stem.ptx" "$work/$stem.ptx"
  echo "nvcc sm_90: $stem.cu compiles"
}
for source in cuda/*.cu; do
  mkdir "$work/$(basename "$source" .cu)"
  compile "$source"
done
nvcc "${flags[@]}" -c ../tests/cuda/functors.cu -o "$work/functors.o"
echo "nvcc sm_90: functors.cu compiles"
version=$(nvcc --version | sed -n 's/.*, V\([0-9.]*\)$/\1/p')
python3 cuda/kernel_table.py "$work" "$version" "$@"
