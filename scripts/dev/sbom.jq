# CycloneDX 1.6 from `cargo metadata`: what the executable is made of, which crate asks for which, under which licence and
# with which checksum. `$built` are the crates, as name@version, that are compiled into it: the metadata alone also names
# those that only a feature nobody chose would bring. The same commit gives the same document: it bears no time and no
# random number.

def name_and_version: "\(.name)@\(.version)";
def purl: "pkg:cargo/\(name_and_version)";

# Old manifests part alternatives by a slash.
def licences: [{expression: (.license | values | gsub(" */ *"; " OR "))}];

($checksums | map({key: name_and_version, value: .checksum}) | from_entries) as $sums
| (.packages | map(select(name_and_version | IN($built[])) | {key: .id, value: .}) | from_entries) as $packages
| ($packages[] | select(.name == "holdfast")) as $program
| {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      lifecycles: [{phase: "pre-build"}],
      component: ($program | {
        type: "application", "bom-ref": purl, name, version, description, licenses: licences, purl: purl,
        properties: [{name: "git:commit", value: $commit}]
      })
    },
    components: [$packages[] | select(.id != $program.id) | {
      type: "library", "bom-ref": purl, name, version, scope: "required", licenses: licences, purl: purl,
      hashes: [$sums[name_and_version] | values | {alg: "SHA-256", content: .}]
    }] | sort_by(.["bom-ref"]),
    dependencies: [.resolve.nodes[] | select($packages[.id]) | {
      ref: ($packages[.id] | purl),
      dependsOn: [.deps[] | select(any(.dep_kinds[]; .kind != "dev")) | $packages[.pkg] | values | purl] | unique
    }] | sort_by(.ref)
  }
