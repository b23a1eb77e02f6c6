"""First weights that were trained before: timm's, from the Hugging Face hub, or those in a file.

`pretrained = true`, or a path, in a recipe becomes `timm/resnet18.a1_in1k@1f2e3d4c5b6a`: where they
are from, and twelve hex digits of the SHA-256 of the file. So the weights are part of the run's id.
Before anything runs the file is copied into the store, as `code/<digits>.safetensors`; workers and
jobs load that copy, if its digits are right.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ns_bench.errors import UserError
from ns_bench.files import publish
from ns_bench.recipe import own_code

REFERENCE = re.compile(r"[^\"]+@([0-9a-f]{12})")
_IN_JSON = re.compile(rf'"pretrained": "{REFERENCE.pattern}"')

_files: dict[str, Path] = {}


def reference(value: str | bool, model: str) -> str:
    """Return `NAME@DIGITS` of weights: a path, or True for those that timm has of a model; "" for
    none, and "true" where timm has none.

    Raises:
        UserError: there is no such file, it is not in safetensors' format, or the hub does not
            give it.
    """
    text = str(value).lower() if str(value).lower() in ("true", "false") else str(value)
    if text in ("", "false") or REFERENCE.fullmatch(text):
        return "" if text == "false" else text
    if text == "true":
        return _of_timm(model)
    path = own_code.find(text)
    if path is None:
        raise UserError(f"pretrained={text}: expected true or a file, and there is none")
    return _named(path.name, path)


def keep(recipes: Iterable[str], store: Path) -> None:
    """Copy into a store the weights that recipes name, given as their canonical JSON."""
    for digits in {digits for recipe in recipes for digits in _IN_JSON.findall(recipe)}:
        copy = store / "code" / f"{digits}.safetensors"
        if digits in _files and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            publish(copy, _files[digits].read_bytes())


def content(name: str) -> bytes:
    """Return the file that a reference names.

    Raises:
        UserError: it is not in the store, or not what it was.
    """
    digits = name[-12:]
    path = _files.get(digits) or own_code.find(f"{digits}.safetensors")
    found = path.read_bytes() if path and path.is_file() else b""
    if hashlib.sha256(found).hexdigest()[:12] != digits:
        raise UserError(
            f"pretrained={name}: its copy code/{digits}.safetensors is missing in the store, or "
            "damaged"
        )
    return found


@cache
def _of_timm(model: str) -> str:
    # torch comes with it: only where a recipe asks
    from huggingface_hub import hf_hub_download
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        return "true"
    try:
        path = Path(hf_hub_download(config.hf_hub_id, "model.safetensors"))
    except Exception as error:  # of httpx, of the hub, of the disk
        why = str(error).strip().splitlines()[0]
        raise UserError(
            f"pretrained=true: {config.hf_hub_id} is not in the hub's cache and cannot be had "
            f"({why}); a path to its model.safetensors will do"
        ) from None
    return _named(config.hf_hub_id, path)


def _named(name: str, path: Path) -> str:
    if path.suffix != ".safetensors":
        raise UserError(f"pretrained={path}: expected a file in the format of safetensors")
    state = path.stat()
    digits = _digits(path.resolve(), state.st_size, state.st_mtime_ns)
    _files[digits] = path
    return f"{name}@{digits}"


@cache
def _digits(path: Path, *state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
