#!/usr/bin/env bash
# Everything that needs a GPU, in parts of at most ten minutes: builds, tests, measures. Not yet run on a GPU.
#
#   benchmarks/gpu_check.sh build tests kernels          needs python3 with torch (CUDA), numpy, pyyaml, pillow,
#                                                        safetensors, nanobind, pytest; cmake, g++, nvcc
#   benchmarks/gpu_check.sh curve DATA                   also tyro, rich, av, OpenEXR; DATA: a scene folder, for example
#                                                        nerf_synthetic/lego
#
# Nothing is installed: the modules are built into the source tree, and this tree is what runs. PYTHON chooses the
# interpreter, NEURFIELD_CUDA_ARCHS the architectures (default: this machine's). JSON comes out in benchmarks/results
# (cuda.json, scene_*.json); every part says how long it took, and the script fails with the first part that does.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1

limited() { timeout 600 "$@"; }

build() {
  local archs=${NEURFIELD_CUDA_ARCHS:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | tr -d . | sort -u | paste -sd';')}
  local nvcc
  nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")
  cmake -S csrc -B build/gpu -DNF_CUDA=ON "-DCMAKE_CUDA_COMPILER=$nvcc" "-DNF_CUDA_ARCHS=$archs" \
    "-DNF_OUTPUT_DIR=$PWD/neurfield/_native" "-DPython_EXECUTABLE=$(command -v "$python")"
  limited cmake --build build/gpu --parallel
  "$python" -c '
import torch
from neurfield.training.device import cuda_build, why_not_cuda
print("torch", torch.__version__, "for CUDA", torch.version.cuda, "- kernels:", cuda_build())
if (reason := why_not_cuda()):
    raise SystemExit(f"CUDA is not used: {reason}")
print("device:", torch.cuda.get_device_name())'
}

tests() { limited "$python" -m pytest tests/cuda -m cuda -rs; }

kernels() { limited "$python" -m benchmarks.run cuda cuda_networks; }

# Each budget trains, evaluates and renders in its own process; together they stay below ten minutes.
curve() { limited "$python" -m benchmarks.scenes.bench_scene "$1" --device cuda --budgets 5 15 60 300 --name "$(basename "$1")_cuda"; }

[ $# -gt 0 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2; }
while [ $# -gt 0 ]; do
  part=$1
  shift
  words=("$part")
  case $part in
    build | tests | kernels) ;;
    curve) words+=("${1:?curve needs a scene folder}") && shift ;;
    *) echo "gpu_check.sh: expected build, tests, kernels or curve, got $part" >&2; exit 2 ;;
  esac
  start=$SECONDS
  "${words[@]}"
  echo "== ${words[*]}: $((SECONDS - start)) s"
done
