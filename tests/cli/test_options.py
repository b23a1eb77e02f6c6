"""What a command was asked: typed, read from a command line and written back as one."""

import os
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ns_bench.arguments import parse, words
from ns_bench.cli.options import (
    OBJECTIVES,
    SearchOptions,
    StudyOptions,
    report_only,
)
from ns_bench.execute.execution import Execution

ANY = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
TEXT = ANY.filter(lambda text: text not in ("", "--"))
"""Anything that a shell can hand over, "-x", "a=b" and line ends among it; of "--" alone the
argparse of Python 3.11 makes nothing."""

NAMES = TEXT.filter(lambda text: text.strip() != "" and text.isprintable())
PATHS = NAMES.map(Path)
COUNTS = st.integers(1, 10**6)
VALUES: dict[str, Any] = {
    "data": st.lists(TEXT).map(tuple),
    "assignments": st.lists(TEXT).map(tuple),
    "runs": PATHS,
    "out": PATHS,
    "init": PATHS,
    "recipe": PATHS,
    "space": PATHS,
    "hours": st.floats(0, 1e9, exclude_min=True),
    "gpu_hours": st.floats(0, 1e9, exclude_min=True),
    "sampler": st.sampled_from(["tpe", "random", "gp", "cmaes", "grid"]),
    "pruning": st.sampled_from(["both", "seeds", "none"]),
    "objectives": st.sampled_from(list(OBJECTIVES)),
    "sampler_seed": st.integers(),
    "tuned": st.just("") | TEXT,
    "force": NAMES,
    "logs": NAMES,
    "execution": st.builds(Execution, st.booleans(), COUNTS),
    **dict.fromkeys(("workers", "hang_seconds", "seeds", "max_seeds", "pilot"), COUNTS),
    **dict.fromkeys(("trials", "tuning_seeds", "batch"), COUNTS),
}
"""What fields may hold; those that are not here hold text, or are switches."""


def options_of(kind: type) -> st.SearchStrategy[Any]:
    """Any options, at most one of those that exclude each other."""

    def value(field: Any) -> st.SearchStrategy[Any]:
        if field.default is False:
            return st.booleans()
        return VALUES.get(field.name, TEXT)

    listed = [field for field in fields(kind) if field.name != "study"]
    given = st.fixed_dictionaries(
        {"study": TEXT}, optional={field.name: value(field) for field in listed}
    )

    def one_of_each(values: dict[str, Any]) -> Any:
        taken = set()
        for field in listed:
            group = field.metadata.get("exclusive")
            if group and field.name in values:
                if group in taken or values[field.name] is False:
                    del values[field.name]
                taken.add(group)
        return kind(**values)

    return given.map(one_of_each)


@pytest.mark.slow
@given(options_of(StudyOptions))
def test_the_options_of_a_study_survive_their_command_line(options: StudyOptions) -> None:
    assert parse(StudyOptions, words(options)) == options


@pytest.mark.slow
@given(options_of(SearchOptions))
def test_the_options_of_a_search_survive_their_command_line(options: SearchOptions) -> None:
    assert parse(SearchOptions, words(options)) == options


@pytest.mark.parametrize("kind", [StudyOptions, SearchOptions])
def test_every_option_is_tried(kind: type) -> None:
    """A new field of a new type needs a line in `VALUES`, or the tests above say nothing of it."""
    for field in fields(kind):
        text_or_switch = field.type in (str, str | None) or field.default is False
        assert text_or_switch or field.name in VALUES, field.name
        assert is_dataclass(field.default) or field.metadata["keywords"]["help"], field.name


def test_defaults_are_those_of_the_dataclass() -> None:
    assert parse(StudyOptions, []) == StudyOptions()
    assert words(StudyOptions()) == []
    assert words(StudyOptions(study="noise", seeds=3)) == ["--seeds=3", "--", "noise"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["noise", "--seeds", "0"],
            "argument --seeds: '0': expected a whole number from 1 to 1000000",
        ),
        (["noise", "--workers", "9" * 12], "expected a whole number from 1 to 1000000"),
        (["noise", "--dry-run", "--status"], "not allowed with argument --dry-run"),
        (["noise", "--sed", "3"], "unrecognized arguments: --sed 3; did you mean --seeds?"),
        (["noise", "--force", ""], "argument --force: '': expected a name"),
        (["noise", "--logs", " "], "argument --logs: ' ': expected a name"),
        (["noise", "--runs", "a\nb"], "argument --runs: 'a\\nb': expected a name"),
    ],
)
def test_what_is_not_understood(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(StudyOptions, arguments)
    assert stopped.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said


# --- the command of the job that writes the report -------------------------------------------


@pytest.mark.slow
@given(options_of(StudyOptions))
def test_a_report_is_asked_for_with_absolute_files_alone(options: StudyOptions) -> None:
    """Whatever was asked, and wherever: what is read is the same, and nothing is trained."""
    report = report_only(options)
    assert report.read_only and report.cluster == "local"
    assert not (report.force or report.retry_failed or report.dry_run or report.data)
    for place in (report.runs, report.out, report.recipe):
        assert place is None or place.is_absolute()
    for name, suffix in ((report.study, ".py"), (report.profile, ".toml")):
        assert name is not None
        assert Path(name).is_absolute() or not name.endswith(suffix)
    assert parse(StudyOptions, words(report)) == report
    same = ("assignments", "seeds", "pilot", "metrics", "tuned")
    assert [getattr(report, name) for name in same] == [getattr(options, name) for name in same]


def test_files_of_ones_own_are_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study, its profile and its recipe lie where the command was given, not the report's."""
    monkeypatch.chdir(tmp_path)
    asked = StudyOptions(study="mine.py", profile="mine.toml", recipe=Path("fields.toml"))
    report = report_only(asked)
    monkeypatch.chdir(os.sep)
    assert report == replace(
        asked,
        study=str(tmp_path / "mine.py"),
        profile=str(tmp_path / "mine.toml"),
        recipe=tmp_path / "fields.toml",
        runs=tmp_path / "runs",
        out=tmp_path / "runs/reports",
        read_only=True,
    )
    assert report_only(StudyOptions(study="noise", profile="digits")).study == "noise"
