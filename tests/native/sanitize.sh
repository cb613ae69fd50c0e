#!/bin/sh
# Builds the native stress programs with sanitizers and runs them: tests/native/sanitize.sh [SCALE]
# Needs a C++20 compiler (CXX, default g++) with libtsan, libasan and libubsan; not part of the ordinary tests.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags="-std=c++20 -O1 -g -fno-omit-frame-pointer -ffp-contract=off -Wall -Wextra -Werror -pthread -I$root/csrc"

check() { # NAME SANITIZERS [SCALE]
  echo "== $1"
  # shellcheck disable=SC2086
  "${CXX:-g++}" $flags "-fsanitize=$2" -fno-sanitize-recover=all "$here/shared_stress.cpp" -o "$out/$1"
  "$out/$1" "${3:-1}"
}

export TSAN_OPTIONS="halt_on_error=1 exitcode=66" UBSAN_OPTIONS=print_stacktrace=1
check thread thread "${1:-1}"
check address-undefined address,undefined,float-cast-overflow "${1:-1}"
echo "sanitizers: clean"
