# shellcheck shell=bash
# The three servers from docker-compose.yml, for machines where packages cannot be had but Docker runs.

compose() {
  # The names the compose file asks for; the project's name keeps two checkouts apart.
  POSTGRES_PORT=$POSTGRES_PORT POSTGRES_PASSWORD=$POSTGRES_PASSWORD AMQP_PORT=$AMQP_PORT MANAGEMENT_PORT=$MANAGEMENT_PORT \
    RABBITMQ_PASSWORD=$RABBITMQ_PASSWORD RABBITMQ_USER_TAGS=administrator \
    REDIS_PORT=$REDIS_PORT REDIS_PASSWORD=$REDIS_PASSWORD \
    AUTH_SECRET=$AUTH_SECRET PERSONAL_KEY=$PERSONAL_KEY OFFICIAL_ACCOUNT_SECRET=$OFFICIAL_ACCOUNT_SECRET \
    docker compose -p "holdfast-$(printf '%s' "$dev" | cksum | cut -d ' ' -f 1)" -f "$root/docker-compose.yml" "$@"
}

docker_runs() { [ -n "${REDIS_PORT:-}" ] && [ "$(compose ps --status running --quiet 2>/dev/null | wc -l)" -ge 3 ]; }

start_docker_servers() {
  if docker_runs; then return; fi
  port POSTGRES_PORT docker
  port AMQP_PORT docker
  port MANAGEMENT_PORT docker
  port REDIS_PORT docker
  step "PostgreSQL, RabbitMQ and Redis in Docker" "docker compose logs tells more" \
    compose up --detach --wait postgres rabbitmq redis
}

stop_docker_servers() {
  if ! docker_runs; then return; fi
  step "stop the servers in Docker" "docker ps shows what is left" compose down
}
