# CycloneDX 1.6 from `cargo metadata`: what the executable is made of, which crate asks for which, under which licence and
# with which checksum. The same commit gives the same document: it bears no time and no random number.
#
#   cargo metadata --locked --format-version 1 | jq --slurpfile checksums checksums.json --arg commit … -f sbom.jq

def purl: "pkg:cargo/\(.name)@\(.version)";

# Old manifests part alternatives by a slash.
def licences: if .license then [{expression: (.license | gsub(" */ *"; " OR "))}] else [] end;

# Normal and build dependencies; what tests alone use is not part of it.
def edges: [.deps[] | select(any(.dep_kinds[]; .kind != "dev")) | .pkg];

($checksums | map({key: "\(.name)@\(.version)", value: .checksum}) | from_entries) as $sums
| (.packages | map({key: .id, value: .}) | from_entries) as $packages
| (.resolve.nodes | map({key: .id, value: edges}) | from_entries) as $graph
| (.packages[] | select(.name == "holdfast" and .source == null) | .id) as $root
| {known: {}, front: [$root]}
| until(.front == [];
    .known as $known
    | (.front | map({key: ., value: true}) | from_entries) as $new
    | {known: ($known + $new), front: ([.front[] | $graph[.][]] | unique | map(select(($known + $new)[.] | not)))})
| (.known | keys) as $parts
| {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      lifecycles: [{phase: "pre-build"}],
      component: ($packages[$root] | {
        type: "application", "bom-ref": purl, name, version, description, licenses: licences, purl: purl,
        properties: [{name: "git:commit", value: $commit}]
      })
    },
    components: [$parts[] | select(. != $root) | $packages[.] | {
      type: "library", "bom-ref": purl, name, version, scope: "required", licenses: licences, purl: purl,
      hashes: [$sums["\(.name)@\(.version)"] | select(. != null) | {alg: "SHA-256", content: .}]
    }] | sort_by(.["bom-ref"]),
    dependencies: [$parts[] | {ref: ($packages[.] | purl), dependsOn: [$graph[.][] | $packages[.] | purl] | unique}] | sort_by(.ref)
  }
