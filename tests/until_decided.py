"""A study of seconds that is looked at twice: one claim is decided at the first look."""

import json
from pathlib import Path
from typing import Any

SOURCE = """
from ns_bench.design.definition import Arm, Design, Study, difference
from ns_bench.design.schedule import Schedule

def design(profile):
    def arm(name, **train):
        fields = {f"train__{field}": value for field, value in train.items()}
        return Arm(name, profile.supervised("small", **fields))
    arms = [arm("plain"), arm("again", ema=0.5), arm("longer", epochs=3)]
    claims = [difference("It does no harm.", "again", "plain", 50.0, kind="not worse"),
              difference("Longer is better.", "longer", "plain", 0.1)]
    return Design(arms, "plain", claims)

STUDY = Study("made_up", "What if?", "a field", design, "nowhere",
              schedule=Schedule((7, 8), (0.7, 1.0)))
"""
PROFILE = """
extends = "smoke"
verdict = true
[recipe.train]
epochs = 2
warmup_epochs = 0
"""
WORDS = ["made_up.py", "--profile", "mine.toml", "--until-decided"]
FIRST, ALL = 3 * 7, 3 * 7 + 2
"""Runs up to the first look, and up to the second: of the arms of the claim that is open."""


def folder(root: Path) -> Path:
    """Make a folder from which the command can be called with `WORDS`."""
    root.mkdir()
    (root / "made_up.py").write_text(SOURCE)
    (root / "mine.toml").write_text(PROFILE)
    return root


def results(root: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in root.glob("runs/*/result.json")}


def looks(root: Path) -> list[dict[str, Any]]:
    """Return what is on record, but for its dates."""
    lines = (root / "runs/looks/made_up-mine.jsonl").read_text().splitlines()
    return [json.loads(line) | {"date": ""} for line in lines]
