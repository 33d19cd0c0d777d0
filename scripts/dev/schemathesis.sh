# shellcheck shell=bash
# ./dev test schemathesis: the tool that drives the API from its own OpenAPI document, of one version, in .dev/.

schemathesis_version=4.32.5

schemathesis_suite() {
  local home=$dev/schemathesis
  if [ "$("$home/bin/schemathesis" --version 2>/dev/null || true)" != "schemathesis, version $schemathesis_version" ]; then
    command -v python3 >/dev/null || die "schemathesis needs Python" "install python3 (3.10 or later) with its venv module"
    step "Install schemathesis $schemathesis_version" \
      "it comes from PyPI and needs the network, or a pip that is told where else to look; everything else is tested without it" \
      install_schemathesis "$home"
  fi
  suite schemathesis env SCHEMATHESIS="$home/bin/schemathesis" \
    cargo test --package holdfast --test schemathesis -- --nocapture
}

install_schemathesis() {
  rm -rf "$1"
  python3 -m venv "$1" && "$1/bin/pip" install --disable-pip-version-check "schemathesis==$schemathesis_version"
}
