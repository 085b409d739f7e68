#!/usr/bin/env bash
# Everything that needs a GPU, in parts of at most ten minutes: builds, tests, measures. Not yet run on a GPU.
#
#   benchmarks/gpu_check.sh build tests kernels curve curve300 commands kilonerf
#
# needs python3 with torch (CUDA), numpy, pyyaml, pillow, safetensors, nanobind, pytest; cmake, g++, nvcc; for the last
# four matplotlib, for the last two also tyro and rich, and the NeRF-synthetic lego at 800 x 800 in LEGO (default:
# NEURFIELD_DATA/lego_800). curve: its quality after 5, 15 and 60 seconds of training, curve300: after 300; commands: the
# same through train, eval and render, 15 and 60 seconds from the start of the process; kilonerf: three minutes of train
# with a teacher and its student, and eval.
#
# Nothing is installed: the modules are built into the source tree, and this tree is what runs. PYTHON chooses the
# interpreter, NEURFIELD_CUDA_ARCHS the architectures (default: this machine's). JSON comes out in benchmarks/results
# (cuda*.json, curve_*.json, scene_*.json); every part says how long it took, and the script fails with the first part
# that does.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1

limited() { timeout 600 "$@"; }

build() {
  local archs=${NEURFIELD_CUDA_ARCHS:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | tr -d . | sort -u | paste -sd';')}
  local nvcc isa=baseline  # of the CPU modules the one that this machine takes
  case " $(grep -m 1 ^flags /proc/cpuinfo) " in
    *" avx512vl "*) isa=avx512 ;;
    *" avx2 "*) isa=avx2 ;;
  esac
  nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")
  cmake -S csrc -B build/gpu -DNF_CUDA=ON "-DCMAKE_CUDA_COMPILER=$nvcc" "-DNF_CUDA_ARCHS=$archs" \
    "-DNF_OUTPUT_DIR=$PWD/neurfield/_native" "-DPython_EXECUTABLE=$(command -v "$python")"
  limited cmake --build build/gpu --parallel "$(nproc)" --target _cuda _baseline "_$isa"
  "$python" -c '
import torch
from neurfield.training.device import cuda_build, why_not_cuda
print("torch", torch.__version__, "for CUDA", torch.version.cuda, "- kernels:", cuda_build())
if (reason := why_not_cuda()):
    raise SystemExit(f"CUDA is not used: {reason}")
print("device:", torch.cuda.get_device_name())'
}

tests() { limited "$python" -m pytest tests/cuda tests/tcnn tests/nerfacc -m cuda -rs; }

kernels() { limited "$python" -m benchmarks.run cuda cuda_networks cuda_step; }

lego=${LEGO:-${NEURFIELD_DATA:-../shared/data}/lego_800}

curve() { limited "$python" -m benchmarks.scenes.bench_curve "$lego" --device cuda --name lego_800_cuda --budgets 5 15 60; }

curve300() { limited "$python" -m benchmarks.scenes.bench_curve "$lego" --device cuda --name lego_800_cuda_300 --budgets 300; }

commands() {
  # where nothing is installed, the command line finds its viewer here
  "$python" -c "import neurfield.viewer" 2>/dev/null || ln -s ../viewer neurfield/viewer
  limited "$python" -m benchmarks.scenes.bench_scene "$lego" --device cuda --name lego_800_cuda --budgets 15 60
}

kilonerf() { # a teacher, its student and pictures of it, all there
  "$python" -c "import neurfield.viewer" 2>/dev/null || ln -s ../viewer neurfield/viewer
  local folder
  folder=$(mktemp -d)
  limited "$python" -m neurfield.cli.main train "$lego" --method kilonerf --device cuda --max-seconds 180 --output-dir "$folder" \
    --experiment-name lego --timestamp gpu
  limited "$python" -m neurfield.cli.main eval "$folder/lego/kilonerf/gpu" --device cuda
  rm -r "$folder"
}

[ $# -gt 0 ] || { sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 2; }
while [ $# -gt 0 ]; do
  part=$1
  shift
  case $part in
    build | tests | kernels | curve | curve300 | commands | kilonerf) ;;
    *) echo "gpu_check.sh: expected build, tests, kernels, curve, curve300, commands or kilonerf, got $part" >&2; exit 2 ;;
  esac
  start=$SECONDS
  "$part"
  echo "== $part: $((SECONDS - start)) s"
done
