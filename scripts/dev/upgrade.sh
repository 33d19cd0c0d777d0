# shellcheck shell=bash
# ./dev test upgrade: the former release runs, this one takes over while people book.

# The commit that was released last. A new release puts its predecessor here.
former_release=01985fe

# The former release's executable, built once and kept.
build_former() {
  local source=$dev/former/source
  former=$dev/former/holdfast-$former_release
  [ ! -x "$former" ] || return 0
  git cat-file -e "$former_release^{commit}" 2>/dev/null ||
    die "the former release $former_release is not in this clone" "git fetch --unshallow"
  rm -rf "$source"
  mkdir -p "$source"
  git archive "$former_release" | tar -x -C "$source" || return 1
  # In a target directory of its own: in a shared one Cargo can take one release's artefacts for the other's.
  (cd "$source" && CARGO_TARGET_DIR=$source/target cargo build --locked --bin holdfast) || return 1
  cp "$source/target/debug/holdfast" "$former"
  rm -rf "$source"
}

upgrade() {
  heading "the former release, $former_release"
  build_former || return 1
  FORMER_HOLDFAST=$former cargo test --package holdfast --test delivery upgrade -- --nocapture
}
