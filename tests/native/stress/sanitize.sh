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
  if [ "$1" = codecs_stress ]; then echo "$root/csrc/codecs/messages.cpp $root/csrc/codecs/sparse.cpp"; fi
  if [ "$1" = reading_stress ]; then echo "$root/csrc/svmlight/lines.cpp"; fi
}

# The loops of every instruction set, compiled by themselves as in csrc/CMakeLists.txt.
# Sanitizers hide from the compiler what it would make vectors of, of which it would warn.
sets() { # SANITIZERS
  compile() { # SET FLAGS...
    set=$1
    shift
    # shellcheck disable=SC2086
    "${CXX:-g++}" $flags -O2 -w "-fsanitize=$sanitizers" -fno-sanitize-recover=all "-DLOOSESTEP_ISA=$set" "$@" \
      -c "$root/csrc/codecs/kernels.cpp" -o "$out/$set.o"
  }
  sanitizers=$1
  case $(uname -m) in
  x86_64)
    compile sse2
    compile avx2 -mavx2
    compile avx512 -mavx512f -mavx512vl -mavx512bw -mavx512dq -mprefer-vector-width=512
    objects="$out/sse2.o $out/avx2.o $out/avx512.o -DLOOSESTEP_X86 -DLOOSESTEP_BASELINE=sse2"
    ;;
  *)
    compile baseline
    objects="$out/baseline.o -DLOOSESTEP_BASELINE=baseline"
    ;;
  esac
}

check() { # PROGRAM NAME SANITIZERS [SCALE]
  echo "== $1, $2"
  objects=
  if [ "$1" = codecs_stress ]; then sets "$3"; fi
  # shellcheck disable=SC2046,SC2086
  "${CXX:-g++}" $flags "-fsanitize=$3" -fno-sanitize-recover=all "$here/$1.cpp" $(sources "$1") $objects -o "$out/$1-$2"
  "$out/$1-$2" "${4:-1}"
}

export TSAN_OPTIONS="halt_on_error=1 exitcode=66" UBSAN_OPTIONS=print_stacktrace=1
for program in shared_stress host_stress messages_stress models_stress factors_stress reading_stress; do
  check "$program" thread thread "${1:-1}"
  check "$program" address-undefined address,undefined,float-cast-overflow "${1:-1}"
done
check codecs_stress address-undefined address,undefined,float-cast-overflow "${1:-1}"  # it starts no thread
echo "sanitizers: clean"
