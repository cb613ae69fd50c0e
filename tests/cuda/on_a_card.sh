#!/bin/sh
# On a machine with a GPU: all its tests, compute-sanitizer over a short job, all its benchmarks:
#   tests/cuda/on_a_card.sh [--smoke]
# What they say goes to docs/results/gpu.md, and the benchmarks' rows to gpu_NAME.json beside it. All of it runs, also
# where a part fails; then the page says so, and the exit status. --smoke: the benchmarks at tiny sizes.
# Needs pip install -e '.[dev,torch,cuda13]' (or cuda12), and compute-sanitizer of NVIDIA's toolkit; PYTHON, RESULTS: others.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python} results=${RESULTS:-docs/results} failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

gpu=$("$python" -m tests.cuda.on_a_card)
page=$results/gpu.md

section() { # TITLE COMMAND...
  title=$1
  shift
  echo "== $title"
  if "$@" >"$log" 2>&1; then verdict=passed; else verdict="FAILED, status $?" failed=1; fi
  # shellcheck disable=SC2016
  printf '\n## %s: %s\n\n`%s`\n\n```\n%s\n```\n' "$title" "$verdict" "$*" "$(cat "$log")" >>"$page"
}

printf '# On a GPU\n\n%s. Written by `tests/cuda/on_a_card.sh`, at %s of %s.\n' \
  "$gpu" "$(git describe --always --dirty)" "$(date -u +%F)" >"$page"

section "tests" "$python" -m pytest -q -n0 -m gpu tests/cuda tests/torch

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
if [ "$sanitizer" ]; then
  for tool in memcheck racecheck initcheck; do
    section "compute-sanitizer, $tool" "$sanitizer" --tool "$tool" --error-exitcode 9 "$python" -m tests.cuda.sanitized
  done
else
  printf '\n## compute-sanitizer: not here, NOT RUN\n' >>"$page"
fi

for name in ops formats replicas hogwild torch_step; do
  section "bench $name" "$python" -m bench "$name" --device cuda --json "$results/gpu_$name.json" "$@"
done
echo "$page"
exit "$failed"
