# shellcheck shell=bash
# ./dev test: every check, each with a heading and its seconds, and one count at the end.

# The suites, in the order they run; a name that is none of these is a filter on the tests' names.
suites='format lint unit it outages up crash-cut doc'

run_tests() {
  local name
  passed=0 failed=0
  # shellcheck disable=SC2086
  [ $# -gt 0 ] || set -- $suites
  # Clippy is the compiler of our own crates then: what it lints is what the suites run, and nobody else's crates are
  # gone through a second time for the lints alone.
  case " $* " in *' lint '*)
    RUSTC_WORKSPACE_WRAPPER=$(rustc --print sysroot)/bin/clippy-driver
    export RUSTC_WORKSPACE_WRAPPER
    # A panic names its line without line tables too, and two dozen programs are written and linked sooner.
    export CARGO_PROFILE_DEV_DEBUG=${CARGO_PROFILE_DEV_DEBUG:-0}
    ;;
  esac
  # Tests wait for their processes part of the time; more at once only make each other wait.
  export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(cores) + 2))}
  for name in "$@"; do
    case $name in
      format) check format cargo fmt --all --check ;;
      lint) check "lint and build" without_warnings cargo build --workspace --all-targets ;;
      unit) suite "unit and property" cargo test --workspace --no-fail-fast --lib --bins ;;
      it) suite "integration and browser" cargo test --workspace --no-fail-fast --test it ;;
      outages) suite outages with_breakable_servers breakable cargo test --package holdfast --test outages ;;
      up) suite "acts on the stack of ./dev up" on_the_stack_of_up cargo test --package holdfast --test delivery dev_up:: ;;
      cluster) suite cluster with_three_nodes cargo test --package holdfast --test cluster -- --nocapture ;;
      crash-cut) suite "a cut of the crash and twin matrices" crash_matrix ;;
      crash)
        check "lint of the crash matrix" cargo clippy --package holdfast --all-targets --features failpoints -- -D warnings
        suite "crash matrix" crash_matrix CRASH_WHOLE=yes --skip twin
        ;;
      twins) suite "twin matrix" crash_matrix TWINS_WHOLE=yes twin ;;
      browser) suite browser cargo test --package holdfast --test it browser ;;
      mixed) suite "2 000 orders, every ending mixed" at_full_length MIXED_ORDERS=2000 mixed_endings ;;
      rush) suite "10 000 requests for 100 seats" at_full_length RUSH_REQUESTS=10000 rush ;;
      rotation) suite "1 000 bookings while every key is replaced" at_full_length ROTATION_BOOKINGS=1000 rotation ;;
      letters) suite "10 000 dead letters, replayed twice" at_full_length DEAD_LETTERS=10000 dead_letters_many ;;
      access) suite "access matrix" cargo test --package holdfast --test it access -- --nocapture ;;
      schemathesis) schemathesis_suite ;;
      oidc) oidc_suite ;;
      flood)
        # A file for each side of each connection.
        ulimit -n "$(ulimit -Hn)"
        suite "floods of ten thousand" at_full_length FLOOD=10000 flood::
        ;;
      upgrade) suite "upgrade from the former release" upgrade ;;
      restore) suite "a backup and its restore" restore ;;
      doc) suite "examples in the documentation" cargo test --workspace --no-fail-fast --doc ;;
      deny) check deny cargo_deny ;;
      coverage)
        need coverage
        check coverage coverage
        ;;
      *) suite "tests named $name" cargo test --workspace --no-fail-fast "$name" ;;
    esac
  done
}

cores() { nproc 2>/dev/null || getconf _NPROCESSORS_ONLN; }

# cargo tells the warnings of our own crates again each time.
without_warnings() { # COMMAND…
  local log
  log=$(log_of warnings)
  "$@" 2>&1 | tee "$log" && ! grep -q '^warning' "$log"
}

# Every process killed, or paused beside a twin, at every point, or at some of them.
crash_matrix() { # [VARIABLE=VALUE [ARGUMENT OF THE TEST PROGRAM…]]
  local setting=${1:-CRASH_CUT=yes}
  [ $# -eq 0 ] || shift
  env "$setting" cargo test --package holdfast --features failpoints --test crash -- --nocapture "$@"
}

# The same tests as in `it`, which runs them shorter.
at_full_length() { # VARIABLE=COUNT NAME
  env "$1" cargo test --package holdfast --test it "$2" -- --nocapture
}

# With PostgreSQL's own tools, of the server's version.
restore() { PATH=$(postgres_bin):$PATH cargo test --package holdfast --test delivery -- backup:: restore:: --nocapture; }

needs_servers() { some_beside 'format lint unit outages up cluster doc deny' "$@"; }

needs_browser() { some_beside 'format lint unit outages up cluster crash crash-cut twins access schemathesis oidc flood upgrade restore doc deny' "$@"; }

# Whether all suites are meant, or one that is not in the list.
some_beside() { # LIST NAME…
  local list=" $1 " name
  shift
  [ $# -gt 0 ] || return 0
  for name in "$@"; do
    case $list in *" $name "*) ;; *) return 0 ;; esac
  done
  return 1
}

# A set of servers that only this command knows, for tests that stop and kill them; gone when it ends.
with_breakable_servers() { # DIRECTORY COMMAND…
  (
    export HOLDFAST_DEV_DIR=$dev/$1
    shift
    trap '"$root/dev" down' EXIT
    "$root/dev" servers && eval "$("$root/dev" env)" && "$@"
  )
}

# The stack that people get, in a directory of its own, of what the tests are built with anyway; gone when the command ends.
on_the_stack_of_up() { # COMMAND…
  (
    export HOLDFAST_DEV_DIR=$dev/up built_already=yes
    cargo build --workspace --bins --test delivery || exit 1
    trap '"$root/dev" down' EXIT
    "$root/dev" up --detach && eval "$("$root/dev" env)" && "$@"
  )
}

with_three_nodes() { # COMMAND…
  mkdir -p "$dev/cluster"
  touch "$dev/cluster/three-nodes"
  with_breakable_servers cluster "$@"
}

# check NAME COMMAND…: one thing that holds or does not.
check() {
  local name=$1 began=$SECONDS
  shift
  heading "$name"
  if "$@" </dev/null; then
    passed=$((passed + 1))
    finished "$name" $((SECONDS - began))
  else
    failed=$((failed + 1))
    say "${red}failed:${plain} $name ($((SECONDS - began)) s)"
  fi
}

# A test that waits for ever would hold up the whole run: what runs by then is stopped, and the suite has failed.
end_after() { # MINUTES
  local sleeping
  trap 'kill "$sleeping" 2>/dev/null; exit 0' TERM
  sleep $(($1 * 60)) &
  sleeping=$!
  wait "$sleeping"
  say "${red}no end within $1 minutes; stopping the tests${plain}"
  sweep "$HOLDFAST_DEV_MARK"
}

# suite NAME COMMAND…: what the test programs themselves counted.
suite() {
  local name=$1 began=$SECONDS status=0 log counts watchdog
  log=$(log_of "test-$1")
  shift
  heading "$name"
  end_after "${SUITE_MINUTES:-60}" &
  watchdog=$!
  "$@" </dev/null 2>&1 | tee "$log" || status=1
  { kill "$watchdog" && wait "$watchdog"; } 2>/dev/null || true
  counts=$(awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$log")
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
  if [ $status = 0 ] && [ "${counts% *}" = 0 ] && [ "$name" != "${name#tests named}" ]; then
    failed=$((failed + 1))
    say "${red}failed:${plain} no test has such a name"
  elif [ $status = 0 ]; then
    finished "$name: ${counts% *} passed" $((SECONDS - began))
  else
    # Broken before or between the tests: not compiled, or killed.
    if [ "${counts#* }" = 0 ]; then failed=$((failed + 1)); fi
    say "${red}failed:${plain} $name ($((SECONDS - began)) s)"
  fi
}
