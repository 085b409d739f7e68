#!/usr/bin/env bash
# Everything that needs a GPU, in parts: builds, tests, measures. What it calls has run on one, but for kilonerf and
# signals; this script has not.
#
#   benchmarks/gpu_check.sh build tests kernels curve                        # the first run
#   benchmarks/gpu_check.sh build peers kernels curve300 commands kilonerf
#
#   build     with cmake, ninja or make, g++ and nvcc, for python3 with torch (CUDA), numpy, pyyaml, pillow, safetensors
#             and nanobind
#   tests     with pytest
#   kernels   operators, networks and grids, whole steps; against nerfacc and tiny-cuda-nn where they are installed
#   curve     quality after 5, 15 and 60 seconds of training; curve300: after 300. With matplotlib, on the NeRF-synthetic
#             lego at 800 x 800 in LEGO (default: NEURFIELD_DATA/lego_800)
#   commands  the same through train, eval and render, with tyro and rich, 15 and 60 seconds from the start of the process
#   kilonerf  a minute of a teacher, a minute and a half of its student, and their figures beside the original NeRF's
#   page      latency of the viewer over its websocket, with a training beside it; with viser
#   signals   the published baselines for images for some minutes, and modulation on pictures of 512 x 512 in pieces
#   peers     builds tiny-cuda-nn and nerfacc from checkouts with their submodules, PEERS/tiny-cuda-nn and PEERS/nerfacc,
#             into build/peers, where the parts after it find them
#
# Nothing is installed: the modules are built into the source tree, and this tree is what runs. No network is used.
# A part that fails or passes its limit is named at the end, and the next one is run; without modules nothing is.
#
#   PYTHON                the interpreter
#   NEURFIELD_CUDA_ARCHS  what is compiled for (default: this machine's GPUs)
#   NEURFIELD_COMMIT      names the commit in the results where the tree has no .git
#   LIMIT                 seconds for all parts together; each has its own limit besides
#   SAVE                  a folder that receives gpu_check.tar.gz after each part: logs, and the JSON and pictures so far.
#                         They lie in build/gpu-logs, benchmarks/results and outputs/benchmarks
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD/build/peers:$PWD PYTHONUNBUFFERED=1
lego=${LEGO:-${NEURFIELD_DATA:-../shared/data}/lego_800}
logs=build/gpu-logs

# Seconds that a part may take: several times what they took on an H100 (kernels 75, curve 95; tests 40 with ten at a
# time, here one after another, and those of other places have come since), and for the others what was guessed, twice.
declare -A limits=(
  [build]=300 [tests]=590 [kernels]=200 [curve]=240 [peers]=600 [curve300]=420 [commands]=300 [kilonerf]=300 [page]=180
  [signals]=600
)

limited() {
  local left=$((deadline - SECONDS))
  timeout --kill-after=5 "$((left > 0 ? left : 1))" "$@"  # 0 would be no limit
}

archs() { echo "${NEURFIELD_CUDA_ARCHS:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | tr -d . | sort -u | paste -sd';')}"; }

build() {
  local nvcc isa=baseline  # of the CPU modules the one that this machine takes
  case " $(grep -m 1 ^flags /proc/cpuinfo) " in
    *" avx512vl "*) isa=avx512 ;;
    *" avx2 "*) isa=avx2 ;;
  esac
  nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")
  if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
  limited cmake -S csrc -B build/gpu -DNF_CUDA=ON "-DCMAKE_CUDA_COMPILER=$nvcc" "-DNF_CUDA_ARCHS=$(archs)" \
    "-DNF_OUTPUT_DIR=$PWD/neurfield/_native" "-DPython_EXECUTABLE=$(command -v "$python")"
  limited cmake --build build/gpu --parallel "$(nproc)" --target _cuda _baseline "_$isa"
  limited "$python" -c '
import torch
from neurfield.training.device import cuda_build, why_not_cuda
print("torch", torch.__version__, "for CUDA", torch.version.cuda, "- kernels:", cuda_build())
if (reason := why_not_cuda()):
    raise SystemExit(f"CUDA is not used: {reason}")
print("device:", torch.cuda.get_device_name())'
}

tests() {
  link_viewer  # without it there is an import that fails, and no test runs at all
  limited "$python" -m pytest tests/cuda tests/tcnn tests/nerfacc tests/training/test_estimators.py -m cuda -rs \
    --durations=5
}

kernels() { limited "$python" -m benchmarks.run cuda cuda_networks cuda_step; }

curve() { limited "$python" -m benchmarks.scenes.bench_curve "$lego" --device cuda --name lego_800_cuda --budgets 5 15 60; }

peers() {
  local first
  first=$(archs)
  TCNN_CUDA_ARCHITECTURES=${first%%;*} limited "$python" -m pip install --no-index --no-deps --no-build-isolation --upgrade \
    --target build/peers "${PEERS:?names the folder of the checkouts}/tiny-cuda-nn/bindings/torch" "$PEERS/nerfacc"
}

curve300() { limited "$python" -m benchmarks.scenes.bench_curve "$lego" --device cuda --name lego_800_cuda_300 --budgets 300; }

commands() {
  link_viewer
  limited "$python" -m benchmarks.scenes.bench_scene "$lego" --device cuda --name lego_800_cuda --budgets 15 60
}

neurfield() { limited "$python" -m neurfield.cli.main "$@"; }

# A hash field of so many seconds, FOLDER/lego/METHOD/gpu.
trained() {
  neurfield train "$lego" --method "$2" --device cuda --max-seconds "$3" --output-dir "$1" --experiment-name lego --timestamp gpu
}

kilonerf() { # a teacher, its student and pictures of it, all there
  link_viewer
  local folder
  folder=$(mktemp -d)
  trained "$folder" ngp-big 60
  neurfield convert "$folder/lego/ngp-big/gpu" --to kilonerf --device cuda --max-seconds 90 --output "$folder/student"
  limited "$python" -m benchmarks.scenes.bench_kilonerf --teacher "$folder/lego/ngp-big/gpu" --student "$folder/student" \
    --data "$lego" --name lego_cuda --device cuda
  rm -r "$folder"
}

page() {
  link_viewer
  local folder
  folder=$(mktemp -d)
  trained "$folder" ngp 20
  limited "$python" -m benchmarks.viewer.bench_latency "$folder/lego/ngp/gpu" --training "$lego" --device cuda --name viewer_cuda
  rm -r "$folder"
}

signals() {
  limited "$python" -m benchmarks.signals.bench_baselines --side 512 --passes 501 --by ours --seconds 270
  limited "$python" -m benchmarks.signals.bench_cam --side 512 --seconds 270
}

# Where nothing is installed, the package neurfield.viewer is found here.
link_viewer() { [ -e neurfield/viewer ] || ln -s ../viewer neurfield/viewer; }

save() {
  [ -n "${SAVE:-}" ] || return 0
  # not the checkpoints, which are large
  find "$logs" benchmarks/results outputs/benchmarks -type f -newer "$logs/start" \
    \( -name '*.log' -o -name '*.json' -o -name psnr.png -o -path '*/after_*' \) \
    | tar -czf "$SAVE/gpu_check.tmp" -T - && mv "$SAVE/gpu_check.tmp" "$SAVE/gpu_check.tar.gz"
}

[ $# -gt 0 ] || { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2; }
for part in "$@"; do
  [ -n "${limits[$part]:-}" ] || { echo "gpu_check.sh: expected ${!limits[*]}, got $part" >&2; exit 2; }
done
mkdir -p "$logs" benchmarks/results outputs/benchmarks ${SAVE:+"$SAVE"}  # a folder that lacks is an error of save's
touch "$logs/start"
failed=()
for part in "$@"; do
  start=$SECONDS
  deadline=$((start + limits[$part]))
  [ -z "${LIMIT:-}" ] || [ "$LIMIT" -gt "$deadline" ] || deadline=$LIMIT
  if [ "$deadline" -le "$start" ]; then
    echo "== $part: no time left"
    failed+=("$part")
    continue
  fi
  (set -e; "$part") 2>&1 | tee "$logs/$part.log"
  status=${PIPESTATUS[0]}
  echo "== $part: $((SECONDS - start)) s, exit code $status"
  save
  [ "$status" -eq 0 ] || failed+=("$part")
  [ "$status" -eq 0 ] || [ "$part" != build ] || break
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
