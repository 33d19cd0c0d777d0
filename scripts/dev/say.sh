# shellcheck shell=bash
# How ./dev talks: headings, steps that show they live, and failures that say how to mend them.
#
# Progress goes to standard error, so that `eval "$(./dev env)"` and pipes see results only.

if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\033[1m' green=$'\033[32m' red=$'\033[31m' dim=$'\033[2m' plain=$'\033[0m'
else
  bold='' green='' red='' dim='' plain=''
fi

say() { printf '%s\n' "$*" >&2; }
heading() { say "${bold}== $* ==${plain}"; }

# die WHAT HOW-TO-MEND [LOG]: the only way out of a failed step.
die() {
  say "${red}failed:${plain} $1"
  if [ -n "${3:-}" ] && [ -s "$3" ]; then
    say "last lines of $3:"
    tail -n 20 "$3" | cut -c 1-200 | sed 's/^/  | /' >&2
  fi
  say "${bold}to mend:${plain} $2"
  exit 1
}

# One line that is rewritten on a terminal and, elsewhere, repeated every 15 seconds.
alive() { # TITLE SECONDS [LOG]
  local last=''
  [ -n "${3:-}" ] && [ -s "$3" ] && last=$(tail -n 1 "$3" | tr -d '\r\033' | cut -c 1-70)
  if [ -t 2 ]; then
    printf '\r\033[K%s … %s s  %s%s%s' "$1" "$2" "$dim" "$last" "$plain" >&2
  elif [ "$2" -ge "${next_sign:-15}" ]; then
    say "  … $1: $2 s  $last"
    next_sign=$(($2 + 15))
  fi
}

finished() { # TITLE SECONDS
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
  say "${green}ok${plain}  $1 ${dim}($2 s)${plain}"
}

log_of() { printf '%s/log/step-%s.log' "$dev" "$(printf '%s' "$1" | tr -cs 'A-Za-z0-9' '-')"; }

# attempt TITLE COMMAND…: runs it quietly, its output in a log of its own; false when it failed.
attempt() {
  local title=$1 started=$SECONDS log status=0
  log=$(log_of "$1")
  shift
  next_sign=15
  # Job control gives the step a process group, so that Ctrl-C reaches all of it.
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  step_group=$!
  set +m
  while kill -0 "$step_group" 2>/dev/null; do
    alive "$title" $((SECONDS - started)) "$log"
    sleep 0.1
  done
  wait "$step_group" || status=$?
  step_group=''
  if [ $status = 0 ]; then
    finished "$title" $((SECONDS - started))
  elif [ -t 2 ]; then
    say
  fi
  return $status
}

# step TITLE HOW-TO-MEND COMMAND…: the same, and the end when it fails.
step() {
  local title=$1 mend=$2
  shift 2
  attempt "$title" "$@" || die "$title" "$mend" "$(log_of "$title")"
}

# until_true TITLE LIMIT PROCESS HOW-TO-MEND COMMAND…: waits for a condition, and no longer once PROCESS has ended.
until_true() {
  local title=$1 limit=$2 process=$3 mend=$4 started=$SECONDS log
  shift 4
  log=$dev/log/$process.log
  next_sign=15
  until "$@" >/dev/null 2>&1; do
    if ! stays "$process"; then
      if [ -t 2 ]; then say; fi
      die "$title: $process has ended" "$mend" "$log"
    elif [ $((SECONDS - started)) -ge "$limit" ]; then
      if [ -t 2 ]; then say; fi
      die "$title: not after $limit s" "$mend" "$log"
    fi
    alive "$title" $((SECONDS - started)) "$log"
    sleep 0.2
  done
  finished "$title" $((SECONDS - started))
}
