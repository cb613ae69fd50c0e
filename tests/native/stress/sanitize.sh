#!/bin/sh
# Builds the native stress programs with sanitizers and runs them: tests/native/stress/sanitize.sh [SCALE]
# Needs a C++20 compiler (CXX, default g++) with libtsan, libasan and libubsan; not part of the ordinary tests.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags="-std=c++20 -O1 -g -fno-omit-frame-pointer -ffp-contract=off -Wall -Wextra -Werror -pthread -I$root/csrc"

sources() { # PROGRAM
  echo "$root/csrc/cpu/threads.cpp"
  if [ "$1" = shared_stress ]; then echo "$root/csrc/cpu/shared.cpp"; fi
  if [ "$1" = reading_stress ]; then echo "$root/csrc/svmlight/lines.cpp"; fi
}

check() { # PROGRAM NAME SANITIZERS [SCALE]
  echo "== $1, $2"
  # shellcheck disable=SC2046,SC2086
  "${CXX:-g++}" $flags "-fsanitize=$3" -fno-sanitize-recover=all "$here/$1.cpp" $(sources "$1") -o "$out/$1-$2"
  "$out/$1-$2" "${4:-1}"
}

export TSAN_OPTIONS="halt_on_error=1 exitcode=66" UBSAN_OPTIONS=print_stacktrace=1
for program in shared_stress host_stress messages_stress models_stress factors_stress reading_stress; do
  check "$program" thread thread "${1:-1}"
  check "$program" address-undefined address,undefined,float-cast-overflow "${1:-1}"
done
echo "sanitizers: clean"
