# shellcheck shell=bash
# ./dev fuzz: looks for input that breaks a promise, by libFuzzer; and what has been found so far is in git.

fuzz_targets() { (cd "$root/fuzz/corpus" && ls); }

# What rustc adds so that libFuzzer sees which way an input took. Spelled out, so that no cargo-fuzz is needed.
fuzz_flags() {
  local flag
  printf -- '-Cpasses=sancov-module'
  for flag in level=4 inline-8bit-counters pc-table trace-compares; do
    printf -- ' -Cllvm-args=-sanitizer-coverage-%s' "$flag"
  done
}
