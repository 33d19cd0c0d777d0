# shellcheck shell=bash
# ./dev sbom: what the executable is made of, as CycloneDX 1.6 in target/sbom.cdx.json.

sbom() {
  local checksums built out=$root/target/sbom.cdx.json commit
  need_cargo
  need sbom
  mkdir -p "$root/target"
  commit=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
  checksums=$(mktemp)
  # Cargo.lock as one JSON object per crate that came from a registry.
  awk -F '"' '/^\[\[package\]\]/ { name = "" } /^name = /{ name = $2 } /^version = / { version = $2 }
    /^checksum = / { printf "{\"name\":\"%s\",\"version\":\"%s\",\"checksum\":\"%s\"}\n", name, version, $2 }' \
    "$root/Cargo.lock" >"$checksums"
  built=$(cargo tree --locked --package holdfast --edges normal,build --target x86_64-unknown-linux-gnu --prefix none \
    --format '{p}' | awk '{ print "\"" $1 "@" substr($2, 2) "\"" }' | sort -u | paste -s -d , -)
  cargo metadata --locked --format-version 1 --filter-platform x86_64-unknown-linux-gnu |
    jq --argjson built "[$built]" --slurpfile checksums "$checksums" --arg commit "$commit" -f "$root/scripts/dev/sbom.jq" \
      >"$out.new"
  rm -f "$checksums"
  mv "$out.new" "$out"
  say "$out: $(jq '.components | length' "$out") components"
}
