# shellcheck shell=bash
# The three servers from docker-compose.yml, for machines where packages cannot be had but Docker runs.

compose() {
  # The project's name keeps two checkouts apart.
  POSTGRES_PORT=$POSTGRES_PORT AMQP_PORT=$AMQP_PORT MANAGEMENT_PORT=$MANAGEMENT_PORT REDIS_PORT=$REDIS_PORT \
    HOLDFAST_SECRETS=$dev/compose-secrets \
    docker compose -p "holdfast-$(printf '%s' "$dev" | cksum | cut -d ' ' -f 1)" -f "$root/docker-compose.yml" "$@"
}

# The passwords that ./dev chose, the same for all accounts of a server, as for servers from packages.
compose_secrets() {
  POSTGRES_PASSWORD=$POSTGRES_PASSWORD RABBITMQ_PASSWORD=$RABBITMQ_PASSWORD RABBITMQ_USER_TAGS=administrator \
    REDIS_PASSWORD=$REDIS_PASSWORD AUTH_SECRET=$AUTH_SECRET PERSONAL_KEY=$PERSONAL_KEY \
    OFFICIAL_ACCOUNT_SECRET=$OFFICIAL_ACCOUNT_SECRET "$root/deploy/compose/secrets" "$dev/compose-secrets"
}

docker_runs() { [ -n "${REDIS_PORT:-}" ] && [ "$(compose ps --status running --quiet 2>/dev/null | wc -l)" -ge 3 ]; }

start_docker_servers() {
  if docker_runs; then return; fi
  port POSTGRES_PORT docker
  port AMQP_PORT docker
  port MANAGEMENT_PORT docker
  port REDIS_PORT docker
  compose_secrets
  step "PostgreSQL, RabbitMQ and Redis in Docker" "docker compose logs tells more" \
    compose up --detach --wait postgres rabbitmq redis
}

stop_docker_servers() {
  if ! docker_runs; then return; fi
  step "stop the servers in Docker" "docker ps shows what is left" compose down
}
