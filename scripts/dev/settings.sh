# shellcheck shell=bash
# Ports and secrets of the dev stack: chosen once, remembered under .dev/, printed by `./dev env`.

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below 32768, where Linux begins to hand out ports to clients.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    if ! taken "$port" && ! grep -qs "=$port\$" "$dev/ports"; then
      printf '%s' "$port"
      return
    fi
  done
}

remember() { # FILE KEY VALUE: the file is replaced whole, so a reader never sees half of it
  (umask 077 && { grep -v "^$2=" "$1" 2>/dev/null || true; printf '%s=%s\n' "$2" "$3"; } >"$1.new")
  mv "$1.new" "$1"
  eval "$2=\$3"
}

# port KEY PROCESS [PREFERRED]: the remembered port, unless a stranger sits on it while PROCESS is not running.
port() {
  local wanted=${!1:-${3:-}}
  if running "$2" && [ -n "${!1:-}" ]; then return; fi
  if [ -z "$wanted" ] || taken "$wanted"; then
    [ -z "$wanted" ] || say "  port $wanted is taken by somebody else: $2 gets another"
    wanted=$(free_port)
  fi
  remember "$dev/ports" "$1" "$wanted"
}

random_hex() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

secret() { # KEY VALUE: VALUE stands only the first time
  [ -n "${!1:-}" ] || remember "$dev/secrets" "$1" "$2"
}

choose_secrets() {
  secret POSTGRES_PASSWORD "$(random_hex 16)"
  secret POSTGRES_ADMIN_PASSWORD "$(random_hex 16)"
  secret RABBITMQ_PASSWORD "$(random_hex 16)"
  secret ERLANG_COOKIE "$(random_hex 16)"
  secret REDIS_PASSWORD "$(random_hex 16)"
  secret AUTH_SECRET "$(random_hex 32)"
  secret PERSONAL_KEY "$(head -c 32 /dev/urandom | base64 | tr -d '\n')"
  secret OFFICIAL_ACCOUNT_SECRET "$(random_hex 16)"
}

load_settings() {
  # Both files are ours and hold only KEY=VALUE of letters, digits, + / and =.
  # shellcheck disable=SC1091
  [ ! -e "$dev/ports" ] || . "$dev/ports"
  # shellcheck disable=SC1091
  [ ! -e "$dev/secrets" ] || . "$dev/secrets"
}

# What WeChat would hand out; the simulator is told the same values.
appid=wx8888888888888888
mchid=1900000109
templates='
BOOKING_CONFIRMED=Wc7Qm2Vd0bTz5RkXy1LpNs8HgJfAe4UoIi3EvBq6MtY
BOOKING_FAILED=Rf3Kx9Zn1cUa6SjYw2MqOt7IhLgBd5VpJk4FwCr0NuX
HOLD_LAPSED=Th8Ly4Ao2dVb7TkZx3NrPu6JiMhCe0WqKl5GxDs1OvW
ORDER_EXPIRED=Xe5Mz0Bp3eWc8UlAy4OsQv7KjNiDf1XrLm6HyEt2PwV
PAYMENT_RECEIVED=Pr6Na1Cq4fXd9VmBz5PtRw8LkOjEg2YsMn7IzFu3QxU
REFUNDED=Rd7Ob2Dr5gYe0WnCa6QuSx9MlPkFh3ZtNo8JaGv4RyT
WAITLIST_OFFER=Wo8Pc3Es6hZf1XoDb7RvTy0NmQlGi4AuOp9KbHw5SzS'

# Where the servers are, as KEY=VALUE lines: all that tests need.
server_settings() {
  cat <<END
DATABASE_URL=postgres://holdfast:$POSTGRES_PASSWORD@127.0.0.1:$POSTGRES_PORT/holdfast?sslmode=disable
AMQP_URL=amqp://holdfast:$RABBITMQ_PASSWORD@127.0.0.1:$AMQP_PORT/holdfast
REDIS_URL=redis://default:$REDIS_PASSWORD@127.0.0.1:$REDIS_PORT/0
RABBITMQ_MANAGEMENT_URL=http://holdfast:$RABBITMQ_PASSWORD@127.0.0.1:$MANAGEMENT_PORT
END
  # The same servers by TLS, under the one name that their certificate bears.
  if [ -e "$dev/tls/made" ] && [ -n "${AMQPS_PORT:-}" ] && [ -n "${REDISS_PORT:-}" ]; then
    cat <<END
TLS_DIRECTORY=$dev/tls
DATABASE_TLS_URL=postgres://holdfast:$POSTGRES_PASSWORD@localhost:$POSTGRES_PORT/holdfast
AMQPS_URL=amqps://holdfast:$RABBITMQ_PASSWORD@localhost:$AMQPS_PORT/holdfast
REDISS_URL=rediss://default:$REDIS_PASSWORD@localhost:$REDISS_PORT/0
END
  fi
  if [ -e "$dev/three-nodes" ]; then
    echo "RABBITMQ_NODES=127.0.0.1:$AMQP_PORT 127.0.0.1:$AMQP_PORT2 127.0.0.1:$AMQP_PORT3"
  fi
}

# The roles' settings, beside those.
role_settings() {
  local wechat=$dev/wechat line
  cat <<END
HOLDFAST_API=http://127.0.0.1:$API_PORT
HOLDFAST_SIMULATOR=http://127.0.0.1:$SIMULATOR_PORT
HOLDFAST_API__LISTEN=127.0.0.1:$API_PORT
HOLDFAST_API__PUBLIC_URL=http://127.0.0.1:$API_PORT
HOLDFAST_API__DEVELOPMENT=true
HOLDFAST_API__PHONE_URL=http://127.0.0.1:$SIMULATOR_PORT/phone
HOLDFAST_AUTH__SECRET=$AUTH_SECRET
HOLDFAST_PERSONAL__KEY=$PERSONAL_KEY
HOLDFAST_WECHAT_PAY__BASE_URL=http://127.0.0.1:$SIMULATOR_PORT
HOLDFAST_WECHAT_PAY__APPID=$appid
HOLDFAST_WECHAT_PAY__MCHID=$mchid
HOLDFAST_WECHAT_PAY__PLATFORM_CERTIFICATES=true
HOLDFAST_WECHAT_PAY__NOTIFY_URL=http://127.0.0.1:$API_PORT/v1/wechat/notify/payments
HOLDFAST_WECHAT_PAY__REFUND_NOTIFY_URL=http://127.0.0.1:$API_PORT/v1/wechat/notify/refunds
HOLDFAST_OFFICIAL_ACCOUNT__BASE_URL=http://127.0.0.1:$SIMULATOR_PORT
HOLDFAST_OFFICIAL_ACCOUNT__APPID=$appid
HOLDFAST_OFFICIAL_ACCOUNT__SECRET=$OFFICIAL_ACCOUNT_SECRET
END
  # A stack that an earlier checkout began has no such port until it is started again.
  if [ -n "${HEALTH_API_PORT:-}" ]; then echo "HOLDFAST_API_HEALTH=http://127.0.0.1:$HEALTH_API_PORT"; fi
  for line in $templates; do
    echo "HOLDFAST_OFFICIAL_ACCOUNT__TEMPLATES__$line"
  done
  # Written by `wechat-sim keygen`.
  if [ -e "$wechat/merchant_serial_no" ]; then
    cat <<END
HOLDFAST_WECHAT_PAY__MERCHANT_SERIAL_NO=$(cat "$wechat/merchant_serial_no")
HOLDFAST_WECHAT_PAY__MERCHANT_PRIVATE_KEY_FILE=$wechat/merchant_private_key.pem
HOLDFAST_WECHAT_PAY__APIV3_KEY_FILE=$wechat/apiv3_key
HOLDFAST_WECHAT_PAY__PUBLIC_KEY_ID=$(cat "$wechat/public_key_id")
HOLDFAST_WECHAT_PAY__PUBLIC_KEY_FILE=$wechat/public_key.pem
END
  fi
}

quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

exports() { # reads KEY=VALUE lines
  local line
  while read -r line; do
    printf 'export %s=%s\n' "${line%%=*}" "$(quoted "${line#*=}")"
  done
}

print_env() {
  if [ -z "${REDIS_PORT:-}" ]; then die "no settings yet" "start the stack once: ./dev up"; fi
  server_settings | exports
  role_settings | exports
  # shellcheck disable=SC2016  # $PATH is for the shell that evaluates it
  case ":$PATH:" in
    *":$binaries:"*) ;;
    *) printf 'export PATH=%s:"$PATH"\n' "$(quoted "$binaries")" ;;
  esac
}
