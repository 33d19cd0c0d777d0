# shellcheck shell=bash
# ./dev test oidc: a certified OpenID provider, of one version, in .dev/.

oidc_provider_version=9.13.3

oidc_suite() {
  local home=$dev/oidc-provider
  if [ "$(cat "$home/version" 2>/dev/null || true)" != "$oidc_provider_version" ]; then
    command -v npm >/dev/null || die "the OpenID provider needs Node.js" "install nodejs (20 or later) and npm"
    step "Install oidc-provider $oidc_provider_version" \
      "it comes from npm and needs the network, or an npm that is told where else to look; everything else is tested without it" \
      install_oidc_provider "$home"
  fi
  suite oidc env OIDC_PROVIDER="$home" cargo test --package holdfast --test oidc -- --nocapture
}

install_oidc_provider() {
  rm -rf "$1"
  mkdir -p "$1"
  echo '{ "private": true }' >"$1/package.json"
  npm install --prefix "$1" --no-audit --no-fund --ignore-scripts --save-exact "oidc-provider@$oidc_provider_version" &&
    echo "$oidc_provider_version" >"$1/version"
}
