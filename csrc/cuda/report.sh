#!/usr/bin/env bash
# Runs nvcc as CMake calls it and leaves in FOLDER what ptxas says of the kernels, STEM.log, and their PTX, STEM.ptx.
# usage: report.sh FOLDER NVCC OPTIONS... -o SOMEWHERE/STEM.cu.o
set -euo pipefail
folder=$1
stem=$(basename "${!#}" .cu.o)
shift
mkdir -p "$folder/$stem"
"$@" -Xptxas -v --keep --keep-dir "$folder/$stem" 2>"$folder/$stem/log" || { cat "$folder/$stem/log" >&2; exit 1; }
mv "$folder/$stem/"*.ptx "$folder/$stem.ptx"
mv "$folder/$stem/log" "$folder/$stem.log"
rm -r "${folder:?}/$stem"
