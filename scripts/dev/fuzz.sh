# shellcheck shell=bash
# ./dev fuzz: looks for input that breaks a promise of fuzz/targets. What was found once is in fuzz/corpus, and every
# ./dev test sends it through again.

fuzz() { # [TARGET…] [SECONDS | --runs N]
  local target targets='' limit=-max_total_time=60 failed=''
  while [ $# -gt 0 ]; do
    case $1 in
      --runs)
        case ${2:-} in '' | *[!0-9]*) die "./dev fuzz --runs ${2:-}" "say how many inputs to try" ;; esac
        limit=-runs=$2
        shift
        ;;
      *[!0-9]*)
        [ -d "$root/fuzz/corpus/$1" ] || die "./dev fuzz $1" "the targets are: $(fuzz_targets)"
        targets="$targets $1"
        ;;
      *) limit=-max_total_time=$1 ;;
    esac
    shift
  done
  need_cargo
  rustc +nightly --version >/dev/null 2>&1 || die "no nightly rustc" "rustup toolchain install nightly"
  need build
  heading "build"
  cargo +nightly build --release --manifest-path fuzz/Cargo.toml --target-dir target/fuzz ||
    die "the build" "the compiler's words above say what is wrong"
  for target in ${targets:-$(fuzz_targets)}; do fuzz_one "$target" "$limit" || failed=yes; done
  [ -z "$failed" ]
}

fuzz_targets() { (cd "$root/fuzz/corpus" && echo *); }

# New inputs are kept outside git, so that the next run begins where this one ended.
fuzz_one() { # TARGET LIMIT
  local name="fuzz $1" grown=target/fuzz/corpus/$1 log
  log=$(log_of "$name")
  mkdir -p "$grown" target/fuzz/found
  # One process at the lowest priority: it may run for hours beside other work.
  if HOLDFAST_FUZZ=$1 attempt "$name" nice -n 15 target/fuzz/release/holdfast-fuzz "$2" -max_len=2048 -timeout=10 \
    -print_final_stats=1 "-artifact_prefix=target/fuzz/found/$1-" "$grown" "fuzz/corpus/$1"; then
    # libFuzzer's own words: runs, seconds, and the edges of our code that some input took.
    say "    $(sed -n 's/^Done //p' "$log"), coverage $(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)"
  else
    say "${red}found:${plain} $(ls -t "target/fuzz/found/$1-"* 2>/dev/null | head -n 1)"
    grep -E 'panicked at|^assertion|^  (left|right):|ERROR: libFuzzer' "$log" | cut -c 1-300 >&2
    say "${bold}to mend:${plain} see $log; mend the cause, and move the input to fuzz/corpus/$1 under a name that says what it is"
    return 1
  fi
}
