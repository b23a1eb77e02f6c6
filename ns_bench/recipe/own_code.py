"""Code of one's own: a model, a method, a loss or a noise from a file outside the package.

`mine.py:MyMethod` in a field of a recipe becomes `mine.MyMethod@1f2e3d4c5b6a`: its name, and twelve
hex digits of the SHA-256 of the file. So the code is part of the run's id, wherever the file is,
and an edited file is another run. Before anything runs the file is copied into the store, as
`code/<digits>.py`; workers and jobs load that copy, if its digits are right.
"""

import ast
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ns_bench.errors import UserError, unknown
from ns_bench.files import publish

REFERENCE = re.compile(r"\w+\.\w+@[0-9a-f]{12}")

_folders = [Path()]
_found: dict[str, Path] = {}
_sources: dict[str, bytes] = {}


def look_in(folder: Path, *, first: bool = False) -> None:
    """Look for files here, too: in the folder of a study file, or in a store's `code`."""
    if folder not in _folders:
        _folders.insert(0 if first else len(_folders), folder)


def find(path: str) -> Path | None:
    """Return the file of that path, seen from one of the folders; None where there is none."""
    places = [folder / Path(path).expanduser() for folder in _folders]
    return next((place for place in places if place.is_file()), None)


def found() -> dict[str, Path]:
    """Return {path as it was written: file} of code that has been named so far by a relative path
    into the folder that is looked in."""
    plain = {text: Path(text) for text in _found}
    return {
        text: _found[text]
        for text, path in plain.items()
        if not path.is_absolute() and not {"..", "~"} & set(path.parts)
    }


def is_reference(text: str) -> bool:
    """Whether a field's value names code of one's own."""
    return REFERENCE.fullmatch(text) is not None


def reference(text: str) -> str:
    """Return `mine.NAME@DIGITS` for `PATH/mine.py:NAME`; other text as it is.

    Raises:
        UserError: there is no such file, it is not Python, or does not define the name.
    """
    path_text, colon, name = text.rpartition(":")
    if not colon or not path_text.endswith(".py"):
        return text
    path = find(path_text)
    if path is None:
        raise UserError(f"{text}: there is no file {path_text}")
    if not path.stem.isidentifier():
        raise UserError(f"{text}: expected a file name of letters, digits and '_'")
    _found[path_text] = path
    content = path.read_bytes()
    names = _defined(content, text)
    if name not in names:
        raise unknown(f"name in {path_text}:", name, names)
    digits = hashlib.sha256(content).hexdigest()[:12]
    _sources[digits] = content
    return f"{path.stem}.{name}@{digits}"


def written(text: str) -> str:
    """Return `mine.py:NAME` for a reference, as a command takes it; other text as it is."""
    stem, _, name = text.partition("@")[0].partition(".")
    return f"{stem}.py:{name}" if is_reference(text) else text


def keep(names: Iterable[str], store: Path) -> None:
    """Copy into a store the code that is named; names that are no references need none.

    Raises:
        UserError: a reference names a file that was never given, and the store has no copy of it.
    """
    for name in sorted({name for name in names if is_reference(name)}):
        digits = name[-12:]
        copy = store / "code" / f"{digits}.py"
        if not copy.exists():
            if digits not in _sources:
                raise UserError(f"{name}: the store has no code/{digits}.py; name {written(name)}")
            copy.parent.mkdir(parents=True, exist_ok=True)
            publish(copy, _sources[digits])


def load(name: str) -> Any:
    """Return the object that a reference names.

    Raises:
        UserError: its file is not in the store, or cannot be run.
    """
    stem_and_name, _, digits = name.partition("@")
    stem, _, attribute = stem_and_name.partition(".")
    return getattr(_module(stem, digits), attribute)


@cache
def _module(stem: str, digits: str) -> Any:
    content = _sources.get(digits)
    for folder in _folders:
        copy = folder / f"{digits}.py"
        if content is None and copy.is_file():
            content = copy.read_bytes()
    if content is None or hashlib.sha256(content).hexdigest()[:12] != digits:
        raise UserError(f"{stem}.py: its copy code/{digits}.py is missing in the store, or damaged")
    spec = importlib.util.spec_from_loader(f"ns_bench_own_{stem}_{digits}", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        exec(compile(content, f"{stem}.py", "exec"), module.__dict__)
    except Exception as error:
        why = " ".join(str(error).split())
        raise UserError(f"{stem}.py: {type(error).__name__}: {why}") from error
    return module


def _defined(content: bytes, text: str) -> list[str]:
    """Return the names that a file defines at its top level, without running it."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{text}: not Python: {error}") from None
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names
