# shellcheck shell=bash
# The three private servers: PostgreSQL, RabbitMQ (with its own epmd) and Redis, all on loopback.
#
# As root each runs under its own account, as Debian means it; otherwise as the user.
# Nothing of the machine's own configuration is read, so an installed service is neither used nor disturbed.

# as ACCOUNT COMMAND…: exec it under that account.
# The checkout may lie where the account cannot go (a home of mode 700). Loosening that directory is not ours to do:
# the process gets the right to look through closed directories instead. Containers often lack the narrower one, so the second is tried.
as() {
  local account=$1 right run
  shift
  if [ "$(id -u)" != 0 ] || ! id "$account" >/dev/null 2>&1; then exec "$@"; fi
  run="setpriv --reuid $account --regid $account --init-groups"
  # Probed by ls, as test(1) asks access(2), which forgets such rights.
  if $run -- ls "$dev/$account" >/dev/null 2>&1; then exec $run -- "$@"; fi
  for right in dac_read_search dac_override; do
    if $run --inh-caps "-all,+$right" --ambient-caps "-all,+$right" -- ls "$dev/$account" >/dev/null 2>&1; then
      exec $run --inh-caps "-all,+$right" --ambient-caps "-all,+$right" -- "$@"
    fi
  done
  echo "the account $account cannot enter $dev, and this system does not let a process be given that right" >&2
  exit 1
}

own() { # ACCOUNT: its directory under .dev belongs to it alone
  mkdir -p "$dev/$1"
  if [ "$(id -u)" = 0 ] && id "$1" >/dev/null 2>&1; then chown -R "$1:" "$dev/$1"; fi
  chmod 700 "$dev/$1"
}

# Where a server keeps its data: on disk, or for tests in memory. They make and drop hundreds of databases and queues, and a
# file system without a journal searches ever longer for the inode of a new file while many were deleted lately.
data_of() { # DIRECTORY OF THE SERVER
  if [ -e "$dev/run/in-memory" ]; then echo "$(memory)/$1/data"; else echo "$dev/$1/data"; fi
}

memory() { printf '/dev/shm/holdfast-%s' "$(printf '%s' "$dev" | cksum | tr ' ' -)"; }

# From nothing, and gone when the servers stop. Where there is too little memory the disk serves as well.
keep_data_in_memory() {
  local free account
  free=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
  if [ "${free:-0}" -lt 4000000 ]; then return; fi
  forget_data_in_memory
  for account in postgres rabbitmq; do
    (umask 077 && mkdir -p "$(memory)/$account")
    if [ "$(id -u)" = 0 ] && id "$account" >/dev/null 2>&1; then chown "$account:" "$(memory)/$account"; fi
  done
  chmod 755 "$(memory)"
  touch "$dev/run/in-memory"
}

forget_data_in_memory() {
  rm -rf "$(memory)"
  rm -f "$dev/run/in-memory"
}

# PostgreSQL's programs; those of the version that made the cluster, when there is one.
postgres_bin() {
  local version found
  version=$(cat "$(data_of postgres)/PG_VERSION" 2>/dev/null || echo '*')
  for found in /usr/lib/postgresql/$version/bin /opt/homebrew/opt/postgresql@$version/bin /usr/local/opt/postgresql@$version/bin; do
    [ ! -x "$found/postgres" ] || echo "$found"
  done | sort -V | tail -n 1 | grep . || { command -v postgres >/dev/null && dirname "$(command -v postgres)"; }
}

rabbitmq_bin() {
  local found
  # `./dev rabbitmq-next` leaves the scripts of another release there.
  for found in "$dev/rabbitmq-next" /usr/lib/rabbitmq/bin /opt/homebrew/opt/rabbitmq/sbin /usr/local/opt/rabbitmq/sbin; do
    if [ -x "$found/rabbitmq-server" ]; then
      echo "$found"
      return
    fi
  done
  return 1
}

# What the tests of TLS connect with, made once, PEM: a private authority with the servers' certificate and a client's; and
# a stranger, with a certificate for the same name.
make_certificates() {
  local dir=$dev/tls name authority
  [ ! -e "$dir/made" ] || return 0
  mkdir -p "$dir"
  for name in ca stranger; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=holdfast dev $name" \
      -addext keyUsage=critical,keyCertSign -keyout "$dir/$name.key" -out "$dir/$name.pem"
  done
  for name in server client strange-server; do
    authority=ca
    if [ "$name" = strange-server ]; then authority=stranger; fi
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$dir/$name.key" -out "$dir/$name.csr"
    printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=%sAuth\n' "${name#strange-}" >"$dir/$name.ext"
    openssl x509 -req -in "$dir/$name.csr" -CA "$dir/$authority.pem" -CAkey "$dir/$authority.key" -CAcreateserial -days 3650 \
      -extfile "$dir/$name.ext" -out "$dir/$name.pem"
  done
  touch "$dir/made"
}

# certificates_for SERVER: its copies, which only its account may read.
certificates_for() {
  mkdir -p "$dev/$1/tls"
  cp "$dev"/tls/{ca.pem,server.pem,server.key} "$dev/$1/tls"
  chmod 600 "$dev/$1/tls/server.key"
}

start_postgres() {
  local bin data
  data=$(data_of postgres)
  if running postgres; then
    make_database_roles "$(postgres_bin)"
    return
  fi
  port POSTGRES_PORT postgres
  bin=$(postgres_bin) || die "no PostgreSQL for $data (version $(cat "$data/PG_VERSION" 2>/dev/null))" \
    "install that version, or remove $dev/postgres to begin with an empty database"
  own postgres
  if [ ! -e "$data/PG_VERSION" ]; then
    step "PostgreSQL: a new cluster" "remove $dev/postgres and try again" new_cluster "$bin" "$data"
  fi
  certificates_for postgres
  own postgres
  launch postgres postgres "$root/dev" __as postgres "$bin/postgres" -D "$data" -c "port=$POSTGRES_PORT" -c listen_addresses=127.0.0.1 \
    -c ssl=on -c "ssl_cert_file=$dev/postgres/tls/server.pem" -c "ssl_key_file=$dev/postgres/tls/server.key" \
    -c unix_socket_directories= -c max_connections=1000 -c shared_buffers=512MB -c max_wal_size=2GB -c wal_compression=off
  until_true "PostgreSQL on port $POSTGRES_PORT" 60 postgres "./dev logs postgres tells more" \
    "$bin/pg_isready" -q -h 127.0.0.1 -p "$POSTGRES_PORT"
  sql "$bin" "SELECT 'CREATE ROLE holdfast LOGIN CREATEDB PASSWORD ''$POSTGRES_PASSWORD''' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'holdfast') \gexec
    SELECT 'CREATE DATABASE holdfast OWNER holdfast' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'holdfast') \gexec
    GRANT pg_checkpoint TO holdfast"
  make_database_roles "$bin"
}

# One per kind of process, with the owner's password: also where the server was started by an older checkout.
make_database_roles() { # BIN
  HOLDFAST_ROLES_PASSWORD=$POSTGRES_PASSWORD sql "$1" "$(cat "$root/deploy/postgresql/roles.sql")"
}

new_cluster() { # BIN DATA; renamed into place at the end, so an interrupted one is never taken for whole
  local password=$dev/postgres/password
  rm -rf "$2.new"
  (umask 077 && printf '%s\n' "$POSTGRES_ADMIN_PASSWORD" >"$password") &&
    own postgres &&
    "$root/dev" __as postgres "$1/initdb" -D "$2.new" -U postgres -A scram-sha-256 --pwfile="$password" -E UTF8 --locale=C &&
    rm "$password" &&
    mv "$2.new" "$2"
}

sql() { # BIN STATEMENTS
  if ! printf '%s\n' "$2" | PGPASSWORD=$POSTGRES_ADMIN_PASSWORD "$1/psql" -X -q -v ON_ERROR_STOP=1 \
    -h 127.0.0.1 -p "$POSTGRES_PORT" -U postgres -d postgres >"$dev/log/step-psql.log" 2>&1; then
    die "PostgreSQL: making the role and the database" "remove $dev/postgres after ./dev down and try again" "$dev/log/step-psql.log"
  fi
}

# The broker, or three that are one: `./dev cluster` marks its directory for that.
rabbitmq_nodes() { if [ -e "$dev/three-nodes" ]; then echo "1 2 3"; else echo 1; fi; }

start_rabbitmq() {
  local node nodes bin all=yes
  nodes=$(rabbitmq_nodes)
  for node in $nodes; do running "$(node_name "$node")" || all=''; done
  if [ -n "$all" ] && running epmd; then
    make_broker_users
    return
  fi
  bin=$(rabbitmq_bin) || die "rabbitmq-server is not where its package puts it" "install RabbitMQ again"
  # A broker without its epmd, or the other way round, is half a broker.
  if ! running epmd; then
    stop_rabbitmq
    port EPMD_PORT epmd
    own rabbitmq
    export ERL_EPMD_PORT=$EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
    launch epmd rabbitmq "$root/dev" __as rabbitmq "$(command -v epmd || echo "$bin/epmd")"
    until_true "epmd on port $EPMD_PORT" 10 epmd "./dev logs rabbitmq tells more" taken "$EPMD_PORT"
  fi
  export ERL_EPMD_PORT=$EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
  # All of them first: a node that was killed waits for the others, which may be waiting for it.
  for node in $nodes; do start_node "$node" "$bin"; done
  for node in $nodes; do until_node "$node"; done
  make_broker_users
}

# One per kind of process, with the owner's password, and what each may do in the virtual host of `./dev up`.
make_broker_users() {
  local users
  users=$(sed -n 's/.*"user": *"\([a-z_]*\)".*/{"name":"\1","password":"'"$RABBITMQ_PASSWORD"'","tags":""}/p' \
    "$root/rabbitmq/permissions.json" | paste -s -d , -)
  import_definitions <<<"{\"users\":[$users]}" && import_definitions <"$root/rabbitmq/permissions.json" ||
    die "RabbitMQ: the users of rabbitmq/permissions.json" "./dev logs rabbitmq tells more"
}

# For curl, by a file: arguments are listed to every user of the machine.
management_login() { printf 'user = "holdfast:%s"\n' "$RABBITMQ_PASSWORD"; }

import_definitions() { # JSON on standard input
  curl -fsS -m 30 -o /dev/null --config <(management_login) -H 'Content-Type: application/json' --data-binary @- \
    "http://127.0.0.1:$MANAGEMENT_PORT/api/definitions"
}

stop_rabbitmq() {
  local node
  for node in 1 2 3; do stop "$(node_name "$node")" TERM 60; done
  stop epmd TERM 5
}

# The first node has no number, in names of processes and of ports.
node_number() { [ "$1" = 1 ] || printf '%s' "$1"; }
node_name() { printf 'rabbitmq%s' "$(node_number "$1")"; }

start_node() { # NODE BIN
  local n name dir seen data other amqp amqps management distribution bin=$2
  n=$(node_number "$1") name=$(node_name "$1")
  amqp=AMQP_PORT$n amqps=AMQPS_PORT$n management=MANAGEMENT_PORT$n distribution=DIST_PORT$n dir=$dev/rabbitmq${n:+/node$n}
  if running "$name"; then return; fi
  port "$amqp" "$name"
  port "$amqps" "$name"
  port "$management" "$name"
  port "$distribution" "$name"
  mkdir -p "$dir/home"
  certificates_for "${dir#"$dev/"}"
  # Erlang asks access(2) before it writes, which knows nothing of the right that `as` lends (see there).
  # Its own working directory is open to it under this name, however closed the way there is.
  seen=$dir
  if [ "$(id -u)" = 0 ] && [ -d /proc/self/cwd ]; then seen=/proc/self/cwd; fi
  data=$(data_of "${dir#"$dev/"}")
  if [ "$data" = "$dir/data" ]; then data=$seen/data; fi
  cat >"$dir/rabbitmq.conf" <<END
# Written by ./dev at each start.
listeners.tcp.1 = 127.0.0.1:${!amqp}
listeners.ssl.1 = 127.0.0.1:${!amqps}
ssl_options.cacertfile = $seen/tls/ca.pem
ssl_options.certfile = $seen/tls/server.pem
ssl_options.keyfile = $seen/tls/server.key
# Who shows a certificate shows a good one; nobody has to.
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
management.tcp.ip = 127.0.0.1
management.tcp.port = ${!management}
default_vhost = holdfast
default_user = holdfast
default_pass = $RABBITMQ_PASSWORD
default_user_tags.administrator = true
log.console = true
log.console.use_colors = off
log.file = false
# Half a gigabyte by default, per node, for a laptop's handful of messages.
raft.wal_max_size_bytes = 67108864
END
  if [ -e "$dev/three-nodes" ]; then
    for other in 1 2 3; do
      echo "cluster_formation.classic_config.nodes.$other = holdfast$(node_number $other)@localhost"
    done >>"$dir/rabbitmq.conf"
  fi
  echo '[rabbitmq_management].' >"$dir/enabled_plugins"
  rm -f "$dir/home/.erlang.cookie"
  (umask 277 && printf '%s' "$ERLANG_COOKIE" >"$dir/home/.erlang.cookie")
  own rabbitmq

  # RUNNING_UNDER_SYSTEMD makes its start script step aside for the broker, so that the pid is the broker's own.
  (cd "$dir" && launch "$name" "$name" env \
    HOME="$seen/home" \
    RUNNING_UNDER_SYSTEMD=true \
    RABBITMQ_NODENAME="holdfast$n@localhost" \
    RABBITMQ_DIST_PORT="${!distribution}" \
    RABBITMQ_CONF_ENV_FILE="$seen/rabbitmq-env.conf" \
    RABBITMQ_CONFIG_FILE="$seen/rabbitmq.conf" \
    RABBITMQ_CONFIG_FILES="$seen/conf.d" \
    RABBITMQ_ADVANCED_CONFIG_FILE="$seen/advanced.config" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$seen/enabled_plugins" \
    RABBITMQ_MNESIA_BASE="$data" \
    RABBITMQ_LOG_BASE="$seen/log" \
    RABBITMQ_PID_FILE="$seen/pid" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}' \
    ERL_CRASH_DUMP="$seen/erl_crash.dump" \
    "$root/dev" __as rabbitmq "$bin/rabbitmq-server")
  # The first time they find each other one by one: two that begin at once may each begin a cluster.
  if [ ! -e "$(data_of "${dir#"$dev/"}")" ]; then until_node "$1"; fi
}

until_node() { # NODE
  local n amqp management
  n=$(node_number "$1") amqp=AMQP_PORT$n management=MANAGEMENT_PORT$n
  until_true "RabbitMQ on port ${!amqp}" 120 "$(node_name "$1")" "./dev logs $(node_name "$1") tells more" \
    broker_ready "${!management}" "${!amqp}"
}

# RabbitMQ's own tool, which finds the node by epmd and is let in by the cookie.
rabbitmqctl() {
  local seen=$dev/rabbitmq
  if [ "$(id -u)" = 0 ] && [ -d /proc/self/cwd ]; then seen=/proc/self/cwd; fi
  (cd "$dev/rabbitmq" && HOME=$seen/home ERL_EPMD_PORT=$EPMD_PORT \
    "$root/dev" __as rabbitmq "$(rabbitmq_bin)/rabbitmqctl" -n holdfast@localhost "$@")
}

# The broker opens this port last, when its queues are there.
broker_ready() { # MANAGEMENT-PORT AMQP-PORT
  curl -fsS -m 5 --config <(management_login) "http://127.0.0.1:$1/api/health/checks/port-listener/$2"
}

# redis_program server|cli: Redis' own, or Valkey's, which takes the same words.
redis_program() { first_of "redis-$1" "valkey-$1"; }

start_redis() {
  local dir=$dev/redis
  if running redis; then return; fi
  port REDIS_PORT redis
  port REDISS_PORT redis
  certificates_for redis
  own redis
  cat >"$dir/redis.conf" <<END
# Written by ./dev at each start. Nothing in Redis is worth keeping: the database is the truth.
bind 127.0.0.1
port $REDIS_PORT
tls-port $REDISS_PORT
tls-ca-cert-file "$dir/tls/ca.pem"
tls-cert-file "$dir/tls/server.pem"
tls-key-file "$dir/tls/server.key"
tls-auth-clients optional
requirepass $REDIS_PASSWORD
save ""
appendonly no
maxmemory 256mb
maxmemory-policy noeviction
dir "$dir"
END
  chmod 600 "$dir/redis.conf"
  own redis
  launch redis redis "$root/dev" __as redis "$(redis_program server)" "$dir/redis.conf"
  until_true "Redis on port $REDIS_PORT" 20 redis "./dev logs redis tells more" redis_ready
}

redis_ready() { REDISCLI_AUTH=$REDIS_PASSWORD "$(redis_program cli)" -h 127.0.0.1 -p "$REDIS_PORT" ping | grep -q PONG; }

start_servers() {
  choose_secrets
  if [ -e "$dev/in-docker" ]; then
    start_docker_servers
  else
    if [ -n "${in_memory:-}" ] && ! running postgres && ! running rabbitmq; then keep_data_in_memory; fi
    step "a private authority for TLS" "remove $dev/tls and try again" make_certificates
    start_postgres
    start_rabbitmq
    start_redis
  fi
}

stop_servers() {
  if [ -e "$dev/in-docker" ]; then stop_docker_servers; fi
  stop redis TERM 10
  stop_rabbitmq
  # PostgreSQL's "fast" shutdown: sessions are ended, nothing is lost.
  stop postgres INT 30
  if [ -e "$dev/run/in-memory" ]; then forget_data_in_memory; fi
}
