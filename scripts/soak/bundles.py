"""Damage to bundles, drawn from a seed: flipped and cut bytes, and files that somebody made with right checksums.

Every one of them must be refused in a line, and leave nothing behind.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import yaml

_CONTENTS = "bundle.json"
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064x\nsize %d\n"
_NASTY: tuple[Any, ...] = (
    None, True, -1, 2**31, 2**70, 10**12, 1e308, 0.5, float("nan"), float("inf"), "", "..", "\0", "${oc.env:HOME}",
    "\x1b[2J", "=1+1", "x" * 5000, [], [[]], {}, {"a": 1}, [1, "b"], [None],
)  # fmt: skip
Files = dict[str, bytes]


def damage(draw: random.Random, bundle: bytes) -> tuple[str, bytes]:
    """Return the name of a damage and what it makes of a bundle's bytes."""
    name = draw.choice(list(_KINDS))
    made = _KINDS[name](draw, bundle)
    while _same(made, bundle):
        made = _KINDS[name](draw, bundle)
    return name, made


def _same(made: bytes, bundle: bytes) -> bool:
    """Return whether a reader of zip archives finds the same files in both: a date or a version may have changed."""
    try:
        with zipfile.ZipFile(io.BytesIO(made)) as archive:
            infos = archive.infolist()
            if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
                return False
            found = [(info.filename, archive.read(info)) for info in infos]
    except Exception:  # whatever a reader raises, it is no bundle any more
        return False
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return sorted(found) == sorted((name, archive.read(name)) for name in archive.namelist())


# ---- bytes -------------------------------------------------------------------------------------------------------


def _cut(draw: random.Random, bundle: bytes) -> bytes:
    return bundle[: draw.randrange(len(bundle))]


def _flipped(draw: random.Random, bundle: bytes) -> bytes:
    """Flip bits in a stored file, in a name, or in the central directory."""
    changed = bytearray(bundle)
    low = draw.choice((0, 0, max(0, len(bundle) - 2000)))
    for place in {draw.randrange(low, len(bundle)) for _ in range(draw.choice((1, 5, 60)))}:
        changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _foreign(draw: random.Random, bundle: bytes) -> bytes:
    pointer = _POINTER % (draw.getrandbits(256), len(bundle))
    return draw.choice((b"", b"PK\x03", b"PK\x05\x06" + b"\0" * 18, b"<!DOCTYPE html><html>404", pointer, bundle[::-1]))


def _sizes_that_lie(draw: random.Random, bundle: bytes) -> bytes:
    """Write false sizes and offsets into the central directory."""
    changed = bytearray(bundle)
    places = []
    at = bundle.find(b"PK\x01\x02")
    while at >= 0:
        places.append(at)
        at = bundle.find(b"PK\x01\x02", at + 4)
    at = draw.choice(places)
    field = draw.choice((8, 10, 20, 24, 28, 30, 32, 42))
    if field in (20, 24, 42):
        struct.pack_into("<I", changed, at + field, draw.choice((0, 1, 2**31, 2**32 - 1, draw.getrandbits(32))))
    else:
        struct.pack_into("<H", changed, at + field, draw.choice((1, 8, 99, 2**16 - 1)))
    return bytes(changed) if bytes(changed) != bundle else bundle[:-1]


# ---- archives with right checksums -------------------------------------------------------------------------------


def unpacked(bundle: bytes) -> Files:
    """Return the files of a bundle, without its list of contents."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != _CONTENTS}


def packed(files: Files, twice: str = "", contents: bytes | None = None) -> bytes:
    """Return a bundle of these files, with their checksums; of ``twice``, two entries."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    listed = json.dumps({"kind": "cl_lightning run", "format": 1, "sha256": sums}).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        if twice:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the name is there already, which is the point
                with archive.open(zipfile.ZipInfo(twice), "w") as again:
                    again.write(files[twice])
        archive.writestr(zipfile.ZipInfo(_CONTENTS), listed if contents is None else contents)
    return stream.getvalue()


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every path in a tree, below its root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [each for key, value in items for each in ((*path, key), *_paths(value, (*path, key)))]


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def change_value(draw: random.Random, tree: Any) -> None:
    """Change one value of a tree to another, take one out, put one in, or take one for another."""
    path = draw.choice(_spread(draw, [path for path in _paths(tree) if not _is_free(tree, path)]))
    parent, key = _at(tree, path[:-1]), path[-1]
    before = json.dumps(parent[key], sort_keys=True, default=str)
    for _ in range(50):
        value = draw.choice(_NASTY)
        if type(parent[key]) in (int, float) and draw.random() < 0.5:
            value = draw.choice((-parent[key] - 1, parent[key] + 1, parent[key] * 1000 + 7, str(parent[key])))
        if json.dumps(value, sort_keys=True, default=str) != before:
            break
    action = draw.random()
    if action < 0.7:
        parent[key] = value
    elif action < 0.85:
        del parent[key]
    elif isinstance(parent, dict):
        parent[f"{key}_"] = value
    else:
        parent.insert(key, value)


def _is_free(tree: Any, path: tuple[Any, ...]) -> bool:
    """Return whether a path in a state, whose mappings are lists of pairs, is in a value of :data:`_FREE_IN_STATE`."""
    for key in path:
        if isinstance(tree, list) and len(tree) == 2 and isinstance(tree[0], str) and tree[0] in _FREE_IN_STATE:
            return key == 1
        tree = tree[key]
    return False


def _spread(draw: random.Random, paths: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the paths of one depth: deep lists of numbers are most of a tree."""
    depth = draw.choice(sorted({len(path) for path in paths}))
    return [path for path in paths if len(path) == depth]


FREE = ("notes", "provenance", "data_identity", "images", "equal_images", "left_out")
"""Keys of results that only their sender knows."""
_FREE_IN_STATE = (
    "commits", "seconds", "fit_seconds", "images_per_second", "images", "peak_memory", "peak_gpu_memory",
)  # fmt: skip
"""Keys of a state that only its sender knows, and times."""


def _json(name: str) -> Callable[[random.Random, bytes], bytes]:
    def changed(draw: random.Random, bundle: bytes) -> bytes:
        files = unpacked(bundle)
        tree = json.loads(files[name])
        free = {key: tree.pop(key) for key in FREE if key in tree}
        change_value(draw, tree)
        return packed({**files, name: json.dumps({**tree, **free}).encode()})

    return changed


def _text(draw: random.Random, bundle: bytes) -> bytes:
    """Change a text file in the bundle."""
    files = unpacked(bundle)
    name = draw.choice([name for name in files if name.endswith((".json", ".yaml", ".csv", ".gz"))])
    content = draw.choice(
        (
            b"", b"\xff\xfe", b"[", b"null", b"[" * 100_000, b'{"a":' * 50_000, b"1e999", b"- " * 3000, b"a: &a [*a]",
            b"\0" * 100, b'{"a": 1, "a": 2}', files[name] * 2, _bomb(), b"9" * 5000, files[name][:-5],
        )
    )  # fmt: skip
    return packed({**files, name: content if content != files[name] else b"{}"})


def _bomb() -> bytes:
    """Return YAML of nine lines that expand to a thousand million."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines).encode()


def _configuration(draw: random.Random, bundle: bytes) -> bytes:
    """Change entries that the state and the exemplars repeat, or that define the run.

    Others (a learning rate, a folder) may be changed in a run that somebody sends: nobody could tell.
    """
    files = unpacked(bundle)
    tree = yaml.safe_load(files["config.yaml"])
    group, key = draw.choice(
        [("method", "name"), ("data", "name"), ("data", "image_size"), ("model", "name"), ("model", "kind"),
         ("batch", "size"), ("batch", "replicas"), ("memory", "scope"), ("recipe", "name"), ("seed", "")]
    )  # fmt: skip
    parent, name = (tree[group], key) if key else (tree, group)
    if draw.random() < 0.2 and key:
        tree[group] = draw.choice(
            [value for value in _NASTY if value != {}]
        )  # keys that are missing may have come later
    else:
        values = [value for value in _NASTY if value != parent[name] and not (value is True and parent[name] == 1)]
        parent[name] = draw.choice(values)
    return packed({**files, "config.yaml": yaml.safe_dump(tree).encode()})


def _tensors(draw: random.Random, bundle: bytes) -> bytes:
    """Write a header of safetensors with false shapes, types or offsets."""
    files = unpacked(bundle)
    name = draw.choice([name for name in files if name.endswith(".safetensors")])
    content = files[name]
    size = struct.unpack_from("<Q", content)[0]
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    key = draw.choice([key for key in header if key != "__metadata__"] or ["new"])
    entry = header.get(key, {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    action = draw.randrange(6)
    if action == 0:
        header[key] = {**entry, "shape": draw.choice(([10**12], [-1], [0], [1], [2**63, 2**63], "x", [1.5], None))}
    elif action == 1:
        kinds = ("F32", "F64", "BF16", "F16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "X", 3)
        header[key] = {**entry, "dtype": draw.choice([kind for kind in kinds if kind != entry["dtype"]])}
    elif action == 2:
        header[key] = {**entry, "data_offsets": draw.choice(([0, 10**12], [-4, 0], [4, 0], [0], "x", [1, 2]))}
    elif action == 3:
        header.pop(key, None)
    elif action == 4:
        size = draw.choice((0, 2**63, 10**12, len(content)))
        return packed({**files, name: struct.pack("<Q", size) + content[8:]})
    elif name.startswith("exemplars/"):
        data += b"\xff"  # pixels may be any
    else:
        data = b"\xff" * len(data) if data else b"\xff"
    text = json.dumps(header).encode()
    made = struct.pack("<Q", len(text)) + text + data
    return packed({**files, name: made if made != content else content + b"\0"})


def _entries(draw: random.Random, bundle: bytes) -> bytes:
    """Remove, repeat or add an entry, or give it a name outside of the folder."""
    files = unpacked(bundle)
    name = draw.choice([name for name in files if name != "images.csv.gz"])
    action = draw.randrange(4)
    if action == 0:
        return packed({key: content for key, content in files.items() if key != name})
    if action == 1:
        return packed(files, twice=name)
    if action == 2:
        odd = ("../x", "/etc/x", "checkpoints/task_000.pt", "exemplars/files/../../x", "exemplars/files/000000.png/x",
               "run.log", "exemplars\\files\\000000", "exemplars/files/999999999.png")  # fmt: skip
        return packed({**files, draw.choice(odd): b"x"})
    return packed(files, contents=draw.choice((b"", b"[]", b"{}", b'{"kind": 1}', b"[" * 100_000, b'{"a":1,"a":1}')))


_KINDS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "cut": _cut,
    "flipped": _flipped,
    "foreign": _foreign,
    "sizes that lie": _sizes_that_lie,
    "index": _json("exemplars/index.json"),
    "state": _json("state.json"),
    "results": _json("results.json"),
    "text": _text,
    "configuration": _configuration,
    "tensors": _tensors,
    "entries": _entries,
}
