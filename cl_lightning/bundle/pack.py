"""Export and import of bundles: a finished run with its exemplars as one file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import yaml

from cl_lightning.bundle.archive import Archive, Item, opened, pack
from cl_lightning.bundle.run_check import check_run
from cl_lightning.checkpoint.files import VERSION, Position, load_checkpoint, save_whole
from cl_lightning.config.saved import load_saved
from cl_lightning.core.atomic_write import beside
from cl_lightning.core.errors import UserError, as_user_error
from cl_lightning.core.json_schema import read_yaml
from cl_lightning.core.serialization import decode, encode
from cl_lightning.data.scenarios.image_list import LISTING
from cl_lightning.data.sources.exemplar_reading import read_exemplar_store
from cl_lightning.data.sources.exemplar_store import write_kept
from cl_lightning.factory.added_task import EXEMPLARS, exemplars_of, read_finished

_LONGEST_REASON = 300
_TEXTS = ("config.yaml", "results.json", "accuracy_matrix.csv")


def export_run(run_dir: Path, file: Path) -> tuple[int, int]:
    """Write the run in ``run_dir`` to ``file``; returns the number of exemplars and the size in bytes.

    Raises:
        UserError: no finished run, its exemplars' images are not there, or ``file`` exists.
        OSError: no room, or no right to write.
    """
    if file.exists():
        raise UserError(f"{file} exists already: type another FILE")
    if not file.absolute().parent.is_dir():
        raise UserError(f"{file.parent} does not exist: type FILE in a folder that does")
    config, payload = read_finished(run_dir, "export ")
    with as_user_error():
        store = exemplars_of(config, payload)
        for name in _TEXTS:
            if not (run_dir / name).is_file():
                raise UserError(f"{run_dir} has no {name}: type resume={run_dir} to have it written again")
    listing = [LISTING] if (run_dir / LISTING).is_file() else []  # runs of earlier versions lack it
    with tempfile.TemporaryDirectory() as aside:
        write_kept(Path(aside) / EXEMPLARS, store)
        images = [path for path in sorted((Path(aside) / EXEMPLARS).rglob("*")) if path.is_file()]
        text, tensors = encode(payload)
        items = [
            *(Item(name, run_dir / name) for name in (*_TEXTS, *listing)),
            Item("state.json", text),
            Item("state.safetensors", tensors),
            *(Item(path.relative_to(aside).as_posix(), path) for path in images),
        ]
        return len(store.source), pack(file, items)


def import_run(file: Path, run_dir: Path) -> tuple[int, int]:
    """Restore the run in ``file`` to ``run_dir``: all of it, or nothing.

    Returns the number of exemplars and of classes.

    Raises:
        UserError: ``file`` is no bundle or was altered, or ``run_dir`` exists.
        OSError: no room, or no right to write.
    """
    if run_dir.exists() and not (run_dir.is_dir() and not any(run_dir.iterdir())):
        raise UserError(f"{run_dir} exists already: type another RUN_DIR")
    if not file.is_file():
        raise UserError(f"{file} does not exist: type FILE, which python -m cl_lightning.bundle export has written")
    part = beside(run_dir.absolute())
    try:
        with opened(file) as archive:
            part.mkdir(parents=True)
            found = _restore(archive, part, run_dir)
        part.replace(run_dir.absolute())
    except ValueError as error:
        raise UserError(f"{file} is refused: {' '.join(str(error).split())[:_LONGEST_REASON]}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return found


def _restore(archive: Archive, part: Path, run_dir: Path) -> tuple[int, int]:
    missing = [name for name in (*_TEXTS, "state.json", "state.safetensors") if name not in archive.names]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    for name in archive.names:
        if not name.startswith("state."):
            archive.unpack(name, part)
    payload = decode(archive.read("state.json"), archive.read("state.safetensors"))
    if not isinstance(payload, dict) or payload.get("version") != VERSION:
        raise ValueError(f"its state is of another format than {VERSION}: use the release that wrote it")
    store = read_exemplar_store(part / EXEMPLARS)
    try:
        load_saved(part, word="import ")
        check_run(part, payload, store)
        saved = read_yaml((part / "config.yaml").read_text(encoding="utf-8"))
    except (UserError, yaml.YAMLError) as error:
        raise ValueError(f"its configuration is none of this version: {error}".replace(str(part), "it")) from error
    checkpoint = part / "checkpoints" / Position(len(store.sizes)).file_name
    save_whole(checkpoint, payload)
    load_checkpoint(checkpoint)  # raises if it could not be read again
    saved["run_dir"] = str(run_dir.absolute())
    (part / "config.yaml").write_text(yaml.safe_dump(saved, sort_keys=False), encoding="utf-8")
    return len(store.source), len(store.source.class_names)
