#!/usr/bin/env bash
# Builds, tests, checks and measures hpvod on a machine with a GPU, torch and nvcc but no network.
#
#   bench/on_gpu.sh OUT
#
# Leaves in the folder OUT: log.txt (every step's output, and a summary last), <gpu>.json and
# <gpu>.png (all tables), <gpu>_bfloat16.json, and of masked_conv.py <gpu>_density.json and .png in
# bfloat16, <gpu>_float16_density.json and .png. Ends within 10 minutes, with a non-zero status
# where a step failed. Wheels in the folder .whl, if there is one, are installed first.
set -uo pipefail

if [[ $# -ne 1 ]]; then
  echo "usage: bench/on_gpu.sh OUT" >&2
  exit 2
fi
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
python=${PYTHON:-python3}
log=$out/log.txt
: >"$log" || exit 2

# The installed package is tested, not the sources.
export PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1

deadline=590 # seconds, for all steps together
summary=()
failed=0

# step NAME SECONDS COMMAND...: runs the command for at most so long; failures do not stop us.
step() {
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  local left=$((deadline - SECONDS))
  if ((left < limit)); then limit=$left; fi
  if ((limit < 5)); then
    status="not run, out of time"
  else
    printf '\n=== %s (at most %s s): %s\n' "$name" "$limit" "$*" | tee -a "$log"
    timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$log"
    status=${PIPESTATUS[0]}
  fi
  case $status in
    0) status=passed ;;
    124 | 137) status="stopped after $limit s" ;;
    [0-9]*) status="failed with status $status" ;;
  esac
  if [[ $status != passed ]]; then failed=1; fi
  summary+=("$(printf '%-10s %4d s  %s' "$name" "$((SECONDS - start))" "$status")")
}

shopt -s nullglob
wheels=(.whl/*.whl)
if ((${#wheels[@]})); then
  step wheels 30 "$python" -m pip install -q --no-index --no-deps "${wheels[@]}"
fi
step build 180 "$python" -m pip install -v --no-deps --no-build-isolation .
step backends 30 "$python" -m hpvod_ops

# Files that need packages this machine may not have are left out, unless they hold GPU tests. What
# runs on the CPU is tested elsewhere.
mapfile -t gpu_tests < <(grep -rl 'mark\.gpu' tests --include='test_*.py' | grep -v '^tests/ops/')
step tests 120 "$python" -m pytest -q tests/ops -k 'not triton and not nvcc and not cpu'
if ((${#gpu_tests[@]})); then
  step gpu_tests 45 "$python" -m pytest -q -m gpu "${gpu_tests[@]}"
fi

# Without torch's cache of allocations every tensor has bounds of its own. The cases repeat their
# dtypes and layouts every eight: ten in a row have them all.
sanitizer=(compute-sanitizer --error-exitcode 9 --target-processes all)
cases=("tests/ops/test_update_plan.py::test_is_what_the_definition_says[cuda-"{10..14}"]")
cases+=("tests/ops/test_batched_nms.py::test_agrees_with_a_literal_loop[cuda-"{10..14}"]")
for op in warp masked_conv2d masked_max_pool2d warp_pixels aggregate warp_aggregate; do
  cases+=("tests/ops/test_$op.py::test_agrees_with_reference[cuda-"{10..19}"]")
done
sanitize() {
  step "$1" "$2" env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "${sanitizer[@]}" --tool "$1" \
    "$python" -m pytest -q "${cases[@]}"
}
sanitize memcheck 75

kind=$("$python" -c 'import sys; sys.path.append("."); import torch
from bench.machine import device_kind
print(device_kind(torch.device("cuda")))' 2>>"$log") || kind=gpu
model=(--device cuda --model resnet101 --short-side 600)
density=(bench/masked_conv.py --device cuda --densities 0.1 0.4 1)
step density 120 "$python" "${density[@]}" --dtypes bfloat16 --json "$out/${kind}_density.json"
step speed 150 "$python" bench/speed.py "${model[@]}" --json "$out/$kind.json"
step float16 75 "$python" "${density[@]}" --dtypes float16 \
  --json "$out/${kind}_float16_density.json"
step bfloat16 40 "$python" bench/speed.py "${model[@]}" --only methods --dtype bfloat16 \
  --json "$out/${kind}_bfloat16.json"
step streams 60 "$python" bench/streams.py "${model[@]}" --densities 0.1 0.4 --dtype bfloat16 \
  --json "$out/${kind}_streams.json"

# Last, with the time that is left: Triton compiles kernels anew for most of these cases.
sanitize racecheck 75
step triton 240 "$python" -m pytest -q tests/ops -k triton
step nvcc 120 "$python" -m pytest -q tests/ops -k nvcc

{
  printf '\n=== summary, %s\n' "$(nvidia-smi --query-gpu=name --format=csv,noheader 2>&1 | head -n 1)"
  printf '%s\n' "${summary[@]}"
} | tee -a "$log"
exit "$failed"
