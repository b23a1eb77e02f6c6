"""A copy of the code for the jobs that wait."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ns_bench.execute.provenance import HISTORY, code, commits_of
from ns_bench.files import folder, publish_json, sweep


def snapshot(root: Path, own: Mapping[str, Path] = MappingProxyType({})) -> Path:
    """Copy the code once per content, so that editing the checkout changes no waiting job.

    Args:
        root: the folder of copies; each is a folder in it, named by its content.
        own: {name: file} of code outside the checkout that goes into the folder `own` of it.
    """
    package = Path(__file__).resolve().parents[2]
    rooms = {"ns_bench": package} | {
        name: folder(name) for name in ("studies", "reports", "slurm") if folder(name).is_dir()
    }
    files = [
        (f"{room}/{path.relative_to(top)}", path)
        for room, top in rooms.items()
        for path in sorted(top.rglob("*"))
        if path.is_file()
        and path.suffix in (".py", ".toml", ".csv", ".sh", ".j2", ".css", ".js")
        and not {"_share", "published"} & set(path.relative_to(top).parts)
    ]
    files += [(f"own/{name}", path) for name, path in sorted(own.items())]
    notes = {
        "ns_bench/snapshot.json": code(),
        f"studies/{HISTORY}": {p.name: commits_of(p) for p in folder("studies").glob("*.py")},
    }
    if own:
        notes[f"own/{HISTORY}"] = {name: commits_of(path) for name, path in own.items()}
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for name, path in files:
        digest.update(name.encode() + b"\0" + path.read_bytes())
    target = root / digest.hexdigest()[:16]
    if not target.is_dir():
        sweep(target.parent, "*.tmp")
        unfinished = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        for name, path in files:
            copy = unfinished / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        for name, note in notes.items():
            publish_json(unfinished / name, note)
        with contextlib.suppress(OSError):  # another call was quicker
            unfinished.rename(target)
        shutil.rmtree(unfinished, ignore_errors=True)
    return target
