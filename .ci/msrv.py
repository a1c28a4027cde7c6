"""Reads `cargo metadata` and fails if a crate that a package's users build asks for a newer Rust than the package.

Users build what is reachable by normal and build edges; dev-dependencies are our own business. Every package of the
workspace is looked at. Prints the layer's version. Crates of the layer that declare none are named on standard error.
"""

import json
import sys


def numbers(version):
    return tuple(int(part) for part in (version.split(".") + ["0", "0"])[:3])


def tree_of(root):
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
    return sorted((packages[crate] for crate in tree), key=lambda package: package["name"])


def name_of(package):
    return f"{package['name']} {package['version']}"


metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

errors = []
for member in metadata["workspace_members"]:
    package = packages[member]
    promised = package["rust_version"]
    if promised is None:
        errors.append(f"{package['name']} declares no rust-version")
        continue
    errors += [
        f"{package['name']} promises Rust {promised}, but {name_of(crate)} asks for Rust {crate['rust_version']}"
        for crate in tree_of(member)
        if crate["rust_version"] and numbers(crate["rust_version"]) > numbers(promised)
    ]

layer = metadata["resolve"]["root"]
silent = [name_of(crate) for crate in tree_of(layer) if crate["rust_version"] is None]
if silent:
    print("declare no rust-version:", ", ".join(silent), file=sys.stderr)
if errors:
    sys.exit("\n".join(errors))
print(packages[layer]["rust_version"])
