# shellcheck shell=bash
# The roles of the dev stack: which there are, and how each is started, judged ready and stopped.

# The one list of workers; each name is that of `holdfast worker NAME`.
workers='seats prepay payments expiry refunds notifications reconcile'

health_port() { printf 'HEALTH_%s_PORT' "$(printf '%s' "$1" | tr 'a-z-' 'A-Z_')"; }

choose_role_ports() {
  local worker
  port API_PORT api 8080
  port SIMULATOR_PORT simulator 8090
  port "$(health_port api)" api
  for worker in $workers; do port "$(health_port "$worker")" "$worker"; done
}

# role NAME PROGRAM ARGUMENTS…: runs it under a keeper, unless it already runs just so.
role() {
  local name=$1 program=$2 stamp
  shift
  stamp=$({ env | grep '^HOLDFAST_\|_URL=' | sort; printf '%s\n' "$@"; } | cksum)
  rm -f "$dev/run/$name.ended"
  if running "$name.keeper" && running "$name" &&
    [ "$(cat "$dev/run/$name.stamp" 2>/dev/null)" = "$stamp" ] && [ ! "$program" -nt "$dev/run/$name.stamp" ]; then
    return
  fi
  stop_role "$name"
  printf '%s\n' "$stamp" >"$dev/run/$name.stamp"
  launch "$name.keeper" "$name" env dev="$dev" NO_COLOR=1 "$root/scripts/dev/keep" "$name" "$@"
}

stop_role() {
  # Longer than the grace a worker gives itself to finish what is in hand.
  stop "$1.keeper" TERM 45
  # Only when somebody killed the keeper is there something left to stop.
  stop "$1" TERM 45
}

running_roles() {
  local file name
  for file in "$dev"/run/*.stamp; do
    name=${file##*/}
    name=${name%.stamp}
    if running "$name.keeper" || running "$name"; then printf '%s\n' "$name"; fi
  done
}

# stop_roles: all but those named in $kept, which ran before this command began.
stop_roles() {
  local name names='' pid
  for name in $(running_roles); do
    case "${kept:-}" in *" $name "*) ;; *) names="$names $name" ;; esac
  done
  [ -n "$names" ] || return 0
  say "  stopping$names"
  # All are asked at once, then each is waited for.
  for name in $names; do
    if pid=$(pid_of "$name.keeper"); then kill -s TERM "$pid" 2>/dev/null || true; fi
  done
  for name in $names; do stop_role "$name"; done
}

answers() { curl -fsS -m 5 -o /dev/null "$1"; }

make_keys() {
  step "WeChat simulator: keys" "the log above says why; remove $dev/wechat to begin anew" \
    "$binaries/wechat-sim" keygen --out "$dev/wechat"
}

start_simulator() {
  local template arguments=()
  for template in $templates; do arguments+=(--template-id "${template#*=}"); done
  # By the environment: arguments are listed to every user of the machine.
  WECHAT_SIM_OFFICIAL_ACCOUNT_SECRET=$OFFICIAL_ACCOUNT_SECRET \
    role simulator "$binaries/wechat-sim" serve --keys "$dev/wechat" --listen "127.0.0.1:$SIMULATOR_PORT" \
    --public-url "http://127.0.0.1:$SIMULATOR_PORT" --appid "$appid" --mchid "$mchid" \
    --state "$dev/simulator.json" "${arguments[@]}"
  until_true "WeChat simulator on port $SIMULATOR_PORT" 30 simulator "./dev logs simulator tells more; where an older simulator left its ledger, removing $dev/simulator.json begins a new one" \
    answers "http://127.0.0.1:$SIMULATOR_PORT/_sim/ledger"
}

# as_role ROLE ARGUMENTS…: `holdfast ARGUMENTS` under the role's own accounts, which may do no more than they must.
as_role() {
  local name=$1 accounts line
  shift
  accounts=$("$binaries/holdfast" accounts "$name") || die "the accounts of $name" "the words above say what is wrong"
  # For this function and what it calls alone.
  while read -r line; do local -x "$line"; done <<<"$accounts"
  role "$name" "$binaries/holdfast" "$@"
}

start_roles() {
  local worker health
  HOLDFAST_HEALTH__LISTEN=127.0.0.1:$HEALTH_API_PORT as_role api api
  for worker in $workers; do
    health=$(health_port "$worker")
    HOLDFAST_HEALTH__LISTEN=127.0.0.1:${!health} as_role "$worker" worker "$worker"
  done
  until_true "api on port $API_PORT" 60 api "./dev logs api tells more" answers "http://127.0.0.1:$HEALTH_API_PORT/readyz"
  for worker in $workers; do
    health=$(health_port "$worker")
    until_true "worker $worker, health on port ${!health}" 60 "$worker" "./dev logs $worker tells more" \
      answers "http://127.0.0.1:${!health}/readyz"
  done
}

print_urls() {
  local worker health
  cat <<END

  booking page       http://127.0.0.1:$API_PORT/
  operators' console http://127.0.0.1:$API_PORT/console
  API documentation  http://127.0.0.1:$API_PORT/docs
  WeChat simulator   http://127.0.0.1:$SIMULATOR_PORT/_sim/ledger
  RabbitMQ           http://127.0.0.1:$MANAGEMENT_PORT/  (user holdfast, password in $dev/secrets)
END
  for worker in api $workers; do
    health=$(health_port "$worker")
    printf '  %-17s  http://127.0.0.1:%s/readyz\n' "$worker" "${!health}"
  done
  # shellcheck disable=SC2016  # meant to be typed by the reader
  printf '\n  eval "$(./dev env)" sets DATABASE_URL, AMQP_URL, REDIS_URL, HOLDFAST_API and puts holdfast on PATH\n'
}
