# shellcheck shell=bash
# Processes of ./dev: started in sessions of their own, known by pid and birth, stopped without a trace.

# The time a process began, so that a pid file never speaks of a stranger who got the same number.
birth() {
  local stat
  if [ -d /proc/self ]; then
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    # The second field is the program's name and may hold spaces; the twentieth after it is the start time.
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [ "$1" != Z ] && printf '%s' "${20}"
  else
    ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' '_'
  fi
}

pid_of() { # NAME
  local pid born
  { read -r pid born <"$dev/run/$1.pid"; } 2>/dev/null || return 1
  [ -n "$born" ] && [ "$(birth "$pid")" = "$born" ] && printf '%s' "$pid"
}

running() { pid_of "$1" >/dev/null; }

# A server stays while it runs; a role, until its keeper saw it end for the first time.
stays() {
  if [ -e "$dev/run/$1.keeper.pid" ]; then
    running "$1.keeper" && [ ! -e "$dev/run/$1.ended" ]
  else
    running "$1"
  fi
}

session() { # COMMAND…: exec it as leader of a new session
  export HOLDFAST_DEV_MARK=$mark
  if command -v setsid >/dev/null; then
    exec setsid "$@"
  else
    exec perl -MPOSIX=setsid -e 'setsid(); exec @ARGV or die "$ARGV[0]: $!\n"' "$@"
  fi
}

# launch NAME LOG COMMAND…
launch() {
  local name=$1 log=$dev/log/$2.log pid
  shift 2
  if [ -s "$log" ] && [ "$(wc -c <"$log")" -gt 20000000 ]; then mv "$log" "$log.1"; fi
  printf '== %s  %s starts\n' "$(date '+%Y-%m-%d %H:%M:%S')" "${name%.keeper}" >>"$log"
  (session "$@") >>"$log" 2>&1 </dev/null &
  pid=$!
  printf '%s %s\n' "$pid" "$(birth "$pid")" >"$dev/run/$name.pid"
}

# stop NAME SIGNAL SECONDS: asks first, then insists.
stop() {
  local pid started=$SECONDS
  if pid=$(pid_of "$1"); then
    kill -s "$2" "$pid" 2>/dev/null || true
    while running "$1"; do
      if [ $((SECONDS - started)) -ge "$3" ]; then
        say "  $1 did not end within $3 s of SIG$2; killed"
        kill -s KILL "$pid" 2>/dev/null || true
      fi
      sleep 0.1
    done
    case $1 in *.keeper) ;; *) say "  stopped $1" ;; esac
  fi
  rm -f "$dev/run/$1.pid"
}

# Whatever this checkout's ./dev started carries $mark in its environment, so stragglers are found without guessing by name.
stragglers() { # MARK
  local found pid
  [ -d /proc/self ] || return 0
  # shellcheck disable=SC2013  # such paths hold no spaces
  for found in $(grep -lszFx "HOLDFAST_DEV_MARK=$1" /proc/[0-9]*/environ 2>/dev/null); do
    pid=${found#/proc/}
    pid=${pid%/environ}
    [ "$pid" = $$ ] || [ "$pid" = "$PPID" ] || printf '%s\n' "$pid"
  done
}

sweep() { # MARK
  local pid signal
  for signal in TERM KILL; do
    for pid in $(stragglers "$1"); do
      say "  also stopped $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | cut -c 1-80)"
      kill -s "$signal" "$pid" 2>/dev/null || true
    done
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      [ -n "$(stragglers "$1")" ] || return 0
      sleep 0.2
    done
  done
}

# Two ./dev at once take turns.
lock() {
  local holder told=''
  until mkdir "$dev/lock" 2>/dev/null; do
    holder=$(cat "$dev/lock/pid" 2>/dev/null || true)
    if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
      rm -rf "$dev/lock"
    else
      [ -n "$told" ] || say "waiting for another ./dev (pid ${holder:-?})"
      told=yes
      sleep 0.5
    fi
  done
  echo $$ >"$dev/lock/pid"
  locked=yes
}

unlock() {
  if [ -n "${locked:-}" ]; then rm -rf "$dev/lock"; fi
  locked=''
}
