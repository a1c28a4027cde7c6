"""Reads `cargo metadata` and fails if a crate that our users build asks for a newer Rust than ours.

Users build what is reachable by normal and build edges; dev-dependencies are our own business.
Prints our version. Crates that declare none are named on standard error.
"""

import json
import sys


def numbers(version):
    return tuple(int(part) for part in (version.split(".") + ["0", "0"])[:3])


metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = metadata["resolve"]["root"]

ours = packages[root]["rust_version"]
if ours is None:
    sys.exit("Cargo.toml declares no rust-version")

tree, waiting = set(), [root]
while waiting:
    crate = waiting.pop()
    if crate not in tree:
        tree.add(crate)
        waiting += [
            dependency["pkg"]
            for dependency in nodes[crate]["deps"]
            if any(kind["kind"] in (None, "build") for kind in dependency["dep_kinds"])
        ]

named = sorted(
    (f"{package['name']} {package['version']}", package["rust_version"])
    for package in (packages[crate] for crate in tree)
)
silent = [crate for crate, rust in named if rust is None]
if silent:
    print("declare no rust-version:", ", ".join(silent), file=sys.stderr)
newer = [f"{crate} asks for Rust {rust}" for crate, rust in named if rust and numbers(rust) > numbers(ours)]
if newer:
    sys.exit(f"we promise Rust {ours}, but:\n" + "\n".join(newer))
print(ours)
