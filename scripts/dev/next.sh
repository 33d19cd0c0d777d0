# shellcheck shell=bash
# ./dev rabbitmq-next DIRECTORY: servers of this directory's own, with the newest RabbitMQ that Debian has.
#
# As root, on Debian. The packages of the unstable release are unpacked into DIRECTORY, once (500 MB); the broker runs
# there in a mount namespace of its own, under the account rabbitmq. Nothing of the system is changed.

rabbitmq_next() { # DIRECTORY
  local system wrapper=$dev/next/rabbitmq-next/rabbitmq-server
  [ -n "${1:-}" ] || die "./dev rabbitmq-next" "name a directory outside the checkout for the packages"
  mkdir -p "$1" "${wrapper%/*}"
  system=$(cd "$1" && pwd -P)
  need debootstrap
  if [ ! -e "$system/usr/lib/rabbitmq/bin/rabbitmq-server" ]; then
    step "Unpack RabbitMQ of Debian's unstable release" "remove $system and try again" \
      debootstrap --variant=minbase --include=rabbitmq-server sid "$system" http://deb.debian.org/debian
  fi
  mkdir -p "$system$dev"
  echo "127.0.0.1 localhost" >"$system/etc/hosts"
  cat >"$wrapper" <<END
#!/bin/sh
# Written by ./dev rabbitmq-next.
exec unshare --map-root-user --mount sh -c 'mount --rbind /proc "\$0/proc" && mount --rbind "\$1" "\$0\$1" &&
  exec chroot "\$0" env -C "\$PWD" /usr/lib/rabbitmq/bin/rabbitmq-server' "$system" "$dev"
END
  chmod 755 "$wrapper"
  HOLDFAST_DEV_DIR=$dev/next "$root/dev" servers
  say "  use it:   eval \"\$(HOLDFAST_DEV_DIR=$dev/next ./dev env)\""
  say "  stop it:  HOLDFAST_DEV_DIR=$dev/next ./dev down"
}
