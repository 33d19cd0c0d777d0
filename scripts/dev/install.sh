# shellcheck shell=bash
# What the stack needs from the system, and how it gets there: packages or, for the servers, Docker.

# missing PURPOSE: the Debian packages still wanted for it.
missing() {
  case $1 in
    build)
      command -v cc >/dev/null && { [ ! -d /usr/include ] || [ -e /usr/include/stdio.h ]; } || echo gcc libc6-dev
      command -v curl >/dev/null || echo curl ca-certificates
      ;;
    servers)
      [ -e "$dev/in-docker" ] && return
      postgres_bin >/dev/null || echo postgresql
      rabbitmq_bin >/dev/null || echo rabbitmq-server
      redis_program server >/dev/null && redis_program cli >/dev/null || echo redis-server redis-tools
      ;;
    coverage)
      llvm_tool profdata >/dev/null && llvm_tool cov >/dev/null || echo "llvm-$(llvm_version)"
      ;;
    sbom) command -v jq >/dev/null || echo jq ;;
    audit)
      command -v jq >/dev/null || echo jq
      command -v docker-compose >/dev/null || echo docker-compose
      command -v systemd-analyze >/dev/null || echo systemd
      ;;
    debootstrap) command -v debootstrap >/dev/null || echo debootstrap ;;
    alerts) command -v prometheus >/dev/null && command -v promtool >/dev/null || echo prometheus ;;
    browser)
      chromium >/dev/null || echo chromium
      chromedriver >/dev/null || echo chromium-driver
      ;;
  esac
}

# need PURPOSE: installs what is missing for it.
need() {
  local packages refused='' log=''
  packages=$(missing "$1" | tr '\n' ' ')
  [ -n "$packages" ] || return 0
  # shellcheck disable=SC2086
  if install $packages; then return; fi
  if [ "$1" = servers ] && command -v docker >/dev/null && docker info >/dev/null 2>&1; then
    say "  $refused; Docker runs, so the servers come from docker-compose.yml"
    touch "$dev/in-docker"
    return
  fi
  die "install $packages($refused)" "install these packages by hand and try again$([ "$1" != servers ] || echo ', or start Docker')" "$log"
}

# Sets `refused` and `log` when it returns false.
install() {
  local sudo=''
  if command -v apt-get >/dev/null; then
    if [ "$(id -u)" != 0 ]; then
      sudo=sudo
      # Asked for in the foreground, as a step runs without a terminal.
      # shellcheck disable=SC2046
      if ! command -v sudo >/dev/null || ! sudo $([ -t 0 ] || echo -n) -v; then
        refused='needs root, and sudo is refused'
        return 1
      fi
    fi
    refused='apt-get failed' log=$(log_of "Install $*")
    attempt "Install $*" apt_install "$sudo" "$@"
  elif command -v brew >/dev/null; then
    refused='brew failed' log=$(log_of "Install $*")
    attempt "Install $*" brew_install "$@"
  else
    refused='neither apt-get nor Homebrew is here'
    return 1
  fi
}

# Debian starts a server as soon as it is installed; the policy file asks it not to, and goes away again.
apt_install() {
  local sudo=$1 policy=/usr/sbin/policy-rc.d
  shift
  if [ ! -e "$policy" ]; then
    # shellcheck disable=SC2064
    trap "$sudo rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
  fi
  $sudo apt-get update &&
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
      apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
}

brew_install() {
  local package
  for package in "$@"; do
    case $package in
      gcc | libc6-dev) xcode-select -p || { echo 'run: xcode-select --install'; return 1; } ;;
      postgresql) brew install postgresql@17 ;;
      rabbitmq-server) brew install rabbitmq ;;
      redis-server) brew install redis ;;
      llvm-*) brew install llvm ;;
      chromium) brew install --cask chromium ;;
      chromium-driver) brew install --cask chromedriver ;;
    esac || return 1
  done
}

first_of() {
  local program
  for program in "$@"; do
    # The file, not a function of this script that bears the same name.
    if type -P "$program"; then return; fi
  done
  return 1
}

chromium() { first_of chromium google-chrome /Applications/Chromium.app/Contents/MacOS/Chromium; }
chromedriver() { first_of chromedriver; }

need_cargo() {
  PATH=$PATH:$HOME/.cargo/bin
  command -v cargo >/dev/null || die "there is no cargo" "install Rust as https://rustup.rs says and try again"
}
