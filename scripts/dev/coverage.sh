# shellcheck shell=bash
# ./dev test coverage: which lines of holdfast the tests run, in all processes, those that are killed included.
#
# rustc counts, LLVM's own tools of the same version add up; no other tool takes part.

# What is no part of the shipped program. coverage.awk keeps to this list.
left_out='third-party crates, the simulator (the other party), tests, benchmarks, fuzz targets, #[cfg(test)]'

llvm_version() { rustc --version --verbose | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'; }

# llvm_tool NAME: the file of it. A profile is read by the version that wrote it.
llvm_tool() {
  local chosen
  chosen=$(printf 'LLVM_%s' "$(printf '%s' "$1" | tr '[:lower:]' '[:upper:]')")
  if [ -n "${!chosen:-}" ]; then
    echo "${!chosen}"
  else
    first_of "llvm-$1-$(llvm_version)" "/opt/homebrew/opt/llvm/bin/llvm-$1" "/usr/local/opt/llvm/bin/llvm-$1"
  fi
}

coverage() {
  local counts=$root/target/coverage tests
  rm -rf "$counts"
  mkdir -p "$counts"
  (
    export RUSTC_WORKSPACE_WRAPPER=$root/scripts/dev/coverage-rustc
    # %p: a file for each process, as processes that share one lose each other's counts. %c: written while it runs.
    export LLVM_PROFILE_FILE=$counts/%p-%m%c.profraw
    cargo test --package holdfast --no-run 2>&1 | tee "$counts/build.log" || exit 1
    cargo test --package holdfast --no-fail-fast --lib --bins --test it &&
      with_breakable_servers breakable cargo test --package holdfast --test outages
  ) || return 1
  tests=$(sed -n 's/^ *Executable .*(\(.*\))$/--object=\1/p' "$counts/build.log")
  find "$counts" -name '*.profraw' >"$counts/processes" &&
    "$(llvm_tool profdata)" merge --sparse --output="$counts/all.profdata" --input-files="$counts/processes" &&
    # shellcheck disable=SC2086  # paths in target/ hold no spaces
    "$(llvm_tool cov)" export --format=lcov --instr-profile="$counts/all.profdata" \
      "${CARGO_TARGET_DIR:-$root/target}/debug/holdfast" $tests >"$counts/lines.lcov" &&
    awk -v root="$root/" -v json="$root/target/coverage.json" -v goal=90 \
      -f "$root/scripts/dev/coverage.awk" "$counts/lines.lcov" &&
    say "  left out: $left_out. All figures are in target/coverage.json"
}
