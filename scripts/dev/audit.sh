# shellcheck shell=bash
# ./dev audit [--quick]: everything that is tried for security, reported in target/security-report.md.
#
# What cannot be run counts as failed. Exit 1 if anything failed.

audit() {
  local quick='' report=$root/target/security-report.md table=$dev/audit-table left_out='' broken=0 tried=0
  case ${1:-} in
    '') ;;
    --quick) quick=yes ;;
    *) die "./dev audit $1" "only --quick is known" ;;
  esac
  need_cargo
  need audit
  need servers
  lock
  # Kept until the last check is done.
  for_now
  start_servers
  unlock
  mkdir -p "$root/target"
  : >"$table"

  heading "attacked"
  rm -f target/access-matrix.json target/schemathesis.json
  try "Access: every route and command as nobody, customer, other customer, viewer, operator, with expired and forged tokens" tests access
  at_length "The API, driven by schemathesis from its own OpenAPI document" tests schemathesis
  try "Callbacks: forged, replayed, stale, truncated, of another merchant, oversized" tests webhook
  at_length "Floods: bad signatures by the thousand while good ones pass, slow heads and bodies, idle connections" tests flood
  try "Input that once broke something, through every door (fuzz/corpus)" tests bad_input
  try "SQL with bound parameters only; no markup from text; no unsafe code (walls read from the sources)" tests absences
  heading "encrypted"
  try "TLS to each server and of the ingress: authority and name checked, wrong ones refused" tests tls::
  at_length "Keys of every kind replaced while customers book" tests rotation
  heading "kept"
  try "Accounts of PostgreSQL and RabbitMQ: what each process must not do is refused" tests rights
  try "Settings, config check and Debug show no secret" tests s2_1_no_setting_shows_its_secret
  if [ -n "$quick" ]; then
    try "No secret, token or openid in the logs of all processes at level debug: 400 mixed orders" tests s7_1_every_ending_mixed
    left_out="$left_out
- the logs of 2 000 mixed orders (400 were searched)"
  else
    try "No secret, token or openid in the logs of all processes at level debug: 2 000 mixed orders" tests mixed
  fi
  try "The audit log's chain: a changed, lost or misplaced row is found by holdfast verify" tests s3_3_honest_books
  heading "supply chain"
  # Without it the next two say that they could not run.
  need_cargo_deny || true
  try "Licences, sources and banned crates (deny.toml)" cargo deny --workspace check bans licenses sources
  try "Known vulnerabilities of crates (RustSec)" advisories_check
  try "SBOM: CycloneDX in target/sbom.cdx.json, every crate with licence and checksum" tests sbom
  heading "delivered"
  try "Containers: no root, read-only, no capabilities, own accounts, no secret in a file" tests containers
  try "docker-compose.yml as docker-compose understands it" composition_is_understood
  try "Pods on Kubernetes: no root, read-only, only the network they need" tests kubernetes
  try "systemd units: exposure of at most 2.0 by systemd-analyze security, nothing wrong by systemd-analyze verify" units_are_hardened
  try "Secrets: each role is given what it needs and no more, by units, pods and containers" tests rights_files

  write_report >"$report"
  last_words="$tried tried, $broken failed; $report"
  [ "$broken" = 0 ]
}

# try WHAT COMMAND…: one row of the report.
try() {
  local what=$1 began=$SECONDS result log counts
  shift
  log=$(log_of "$what")
  tried=$((tried + 1))
  if attempt "$what" "$@"; then
    result=clean
  else
    result=FAILED
    broken=$((broken + 1))
    say "${red}failed:${plain} $what; see $log"
    if grep -qE 'no test has such a name|command not found|no such command' "$log"; then result='COULD NOT RUN'; fi
  fi
  # ./dev test ends with its count; the search of the logs says how much it searched.
  counts=$(sed -n -e 's/^\([0-9]* passed, [0-9]* failed\)$/\1/p' -e 's/^secrets in logs: //p' -e 's/^  advisories: \(RustSec[^,]*\).*/\1/p' "$log" | paste -s -d ';' - | sed 's/;/; /g')
  printf '| %s | %s | %s | %s s |\n' "$what" "${counts:-–}" "$result" $((SECONDS - began)) >>"$table"
}

# The same, unless there is little time.
at_length() {
  if [ -n "$quick" ]; then
    left_out="$left_out
- $1"
  else
    try "$@"
  fi
}

tests() { "$root/dev" test "$@"; }

# As installed, with what they share; of 10, where 10 is naked; the network that they need is 1.2.
units_are_hardened() {
  local place=$dev/audit-units unit status=0
  rm -rf "$place"
  mkdir -p "$place/etc/systemd/system" "$place/usr/local/bin" "$place/usr/lib/systemd"
  cp -r deploy/systemd/* "$place/etc/systemd/system"
  cp "$(command -v true)" "$place/usr/local/bin/holdfast"
  # The targets that units name.
  cp -r /usr/lib/systemd/system "$place/usr/lib/systemd"
  for unit in holdfast-api@1 holdfast-worker@{seats,prepay,payments,expiry,refunds,notifications,reconcile} \
    holdfast-check@{api,prepay} holdfast-upgrade; do
    systemd-analyze security --offline=yes --root="$place" --threshold=20 --no-pager "$unit.service" || status=1
    systemd-analyze verify --root="$place" --man=no "$unit.service" || status=1
  done
  return $status
}

# With secrets as a studio makes them.
composition_is_understood() {
  rm -rf "$dev/audit-secrets"
  deploy/compose/secrets "$dev/audit-secrets" &&
    HOLDFAST_SECRETS=$dev/audit-secrets docker-compose --env-file .env.example config --quiet
}

write_report() {
  local crate
  cat <<END
# Security report

What was tried against holdfast, what came of it, and what was not tried. Made by \`./dev audit${quick:+ --quick}\`; threats and
answers are in docs/security.md, each check's own words in $dev/log.

- commit: $(git describe --always --dirty 2>/dev/null || echo unknown), $(date -u +'%Y-%m-%d %H:%M UTC')
- verdict: $([ "$broken" = 0 ] && echo "**clean**" || echo "**$broken of $tried failed**")

## Tried

| what | tests | result | time |
|---|---|---|---|
$(cat "$table")

$(matrix_in_words)
$(schemathesis_in_words)

## Left out

${left_out:-Nothing.}

## Open points

- Nobody from outside has tried to break in: all of this was written by those who wrote the program.
- WeChat's side is a simulator's. Its signatures agree with published vectors; its habits are as documented.
- The images' Debian packages are not scanned here; rebuild them for Debian's security updates.
- The executable is reproducible path for path (same commit, compiler and directory), which is not measured here.

## Versions

| | |
|---|---|
| rustc | $(rustc --version) |
| cargo-deny | $(cargo deny --version 2>/dev/null || echo 'not installed') |
| PostgreSQL | $("$(postgres_bin)/postgres" --version 2>/dev/null) |
| RabbitMQ | $(dpkg-query -W -f '${Version}' rabbitmq-server 2>/dev/null || echo unknown) |
| Redis | $(redis-server --version 2>/dev/null) |
END
  for crate in rustls aws-lc-rs rustls-webpki jsonwebtoken axum hyper tokio sqlx lapin redis reqwest serde_json; do
    printf '| %s | %s |\n' "$crate" "$(awk -F '"' -v name="$crate" '$0 == "name = \"" name "\"" { getline; printf "%s ", $2 }' Cargo.lock)"
  done
}

matrix_in_words() {
  [ -e target/access-matrix.json ] || return 0
  jq -r '"The access matrix has \(.tested) cells tested, \((.failed | if type == "array" then length else . end)) failed; each is in target/access-matrix.json."' \
    target/access-matrix.json
}

schemathesis_in_words() {
  [ -e target/schemathesis.json ] || return 0
  jq -r '"Schemathesis \(.version) sent \(.cases) cases to \(.operations) operations; \((.failures | if type == "array" then length else . end)) failures."' \
    target/schemathesis.json
}
