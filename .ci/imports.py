#!/usr/bin/env python3
"""Fails if the imports within a crate's src/ form a circle.

A file imports another by `crate::`, `super::` or `self::`. A name that a module only re-exports counts as an
import of the file that it comes from. Unit tests are left out.

    .ci/imports.py DIRECTORY...
"""

import re
import sys
from pathlib import Path


def expand(tree):
    """All paths of a use tree, as lists of names."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        yield [part.strip().split(" as ")[0] for part in tree.split("::") if part.strip()]
        return
    prefix = [part.strip() for part in tree[:brace].split("::") if part.strip()]
    depth, start, inner = 0, 0, tree[brace + 1 : tree.rindex("}")]
    parts = []
    for at, char in enumerate(inner):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append(inner[start:at])
            start = at + 1
    parts.append(inner[start:])
    for part in parts:
        if part.strip():
            for path in expand(part):
                yield prefix + path


def code_of(file):
    text = file.read_text()
    text = re.sub(r"//[^\n]*", "", text)
    # Test modules stand at the end of their files.
    return re.split(r"^#\[cfg\((?:all\()?test\b[^\n]*\]\n(?:#[^\n]*\n)*mod ", text, flags=re.M)[0]


def modules_of(src):
    """Each file's module path, and what a module path is in."""
    modules = {}
    for file in sorted(src.rglob("*.rs")):
        parts = list(file.relative_to(src).with_suffix("").parts)
        if parts[-1] in ("mod", "lib"):
            parts.pop()
        modules.setdefault(tuple(parts), file)
    return modules


def imports_of(src):
    modules = modules_of(src)
    uses, aliases = {}, {}
    for module, file in modules.items():
        code = code_of(file)
        uses[module] = []
        for public, tree in re.findall(r"^\s*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", code, re.M):
            for path in expand(tree):
                base = list(module)
                if path[0] == "crate":
                    path, base = path[1:], []
                elif path[0] == "self":
                    path = path[1:]
                elif path[0] == "super":
                    while path and path[0] == "super":
                        path, base = path[1:], base[:-1]
                elif tuple(base + path[:1]) in modules and len(path) > 1:
                    pass
                else:
                    continue
                full = tuple(base + path)
                if public:
                    aliases[module + (full[-1],)] = full
                uses[module].append((bool(public), full))

    def target(path):
        seen = set()
        while path in aliases and path not in seen:
            seen.add(path)
            path = aliases[path]
        while path not in modules and path:
            path = path[:-1]
            # What leads on to another name is a module before it is a function of the same name.
            if path in aliases and path not in modules:
                return target(path)
        return path

    edges = {}
    for module, paths in uses.items():
        for public, path in paths:
            to = target(path)
            # A re-export is the way of a name, not an import; `lib.rs` re-exports all of them.
            if to != module and not public and to in modules and to != ():
                edges.setdefault(module, set()).add(to)
    return edges


def circle_in(edges):
    done, path = set(), []

    def visit(module):
        if module in path:
            return path[path.index(module) :] + [module]
        if module in done:
            return None
        path.append(module)
        for to in sorted(edges.get(module, ())):
            found = visit(to)
            if found:
                return found
        path.pop()
        done.add(module)
        return None

    for module in sorted(edges):
        found = visit(module)
        if found:
            return found
    return None


def main():
    failed = False
    for directory in map(Path, sys.argv[1:]):
        edges = imports_of(directory)
        circle = circle_in(edges)
        count = sum(map(len, edges.values()))
        if circle:
            failed = True
            names = " -> ".join("::".join(module) or "lib" for module in circle)
            print(f"{directory}: imports form a circle: {names}")
        else:
            print(f"{directory}: {count} imports between files, no circle")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
