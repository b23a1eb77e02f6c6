"""`python docs/generate.py`: write what the docs take from the code and from published results.

That is the pages of `docs/reference/` and the README's table of the ten findings; a test holds them
equal to what this returns.
"""

import argparse
import inspect
import re
import types
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ns_bench.arguments import parser
from ns_bench.cli.completion import OPTIONS
from ns_bench.design.definition import load_study, study_names
from ns_bench.design.profile import ProfileFile, load_profile, profile_names
from ns_bench.execute.slurm.cluster import Cluster
from ns_bench.fields import Field, declared
from ns_bench.recipe import Recipe
from ns_bench.report import blocks as b
from ns_bench.report import headlines, results
from ns_bench.report.compare import CompareOptions
from ns_bench.report.export import ExportOptions
from ns_bench.report.markdown import render
from ns_bench.verdicts.sources import from_tables

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "reports/published"
COMMANDS = {**OPTIONS, "report compare": CompareOptions, "report export": ExportOptions}


def commands() -> str:
    """The options of every command, as --help has them."""
    parts: list[b.Block] = [
        b.Paragraph(
            "What `--help` shows. An option with `...` may be given several times. Instead of "
            "`ns-bench study` there is also `python -m ns_bench.study`, and so on."
        )
    ]
    for command, kind in COMMANDS.items():
        table = b.tabulate(
            command,
            [action for action in parser(kind)._actions if action.dest != "help"],
            ("option", lambda action: b.Span(_usage(action), code=True)),
            ("meaning", _meaning),
        )
        parts += [b.Heading(f"ns-bench {command}"), table]
    return render(b.Page("Commands", parts))


def _usage(action: argparse.Action) -> str:
    value = action.metavar or ""
    words = value if isinstance(value, str) else " ".join(value)
    words = f"[{words}]" if action.nargs == "?" and action.option_strings else words
    more = " ..." if isinstance(action, argparse._AppendAction) else ""
    return " ".join([*action.option_strings[:1], words]).strip() + more or action.dest


def _meaning(action: argparse.Action) -> str:
    choices = f" (one of {', '.join(action.choices)})" if action.choices else ""
    return f"{action.help}{choices}"


def recipe() -> str:
    """Every field of a recipe."""
    about = (
        "What `--set FIELD=VALUE` takes, and a profile's `[recipe]`. A field that a run does not "
        "use is no part of the run's id. A profile has values of its own for most of these."
    )
    parts: list[b.Block] = [b.Paragraph(about)]
    tables: dict[str, list[Field]] = {}
    for name, field in declared(Recipe).items():
        tables.setdefault(name.rpartition(".")[0] or "recipe", []).append(field)
    for name, rows in tables.items():
        parts += [b.Heading(name), _fields(name, rows)]
    return render(b.Page("Fields of a recipe", parts))


def profile() -> str:
    """Every key of a profile's file."""
    about = (
        "A profile is a TOML file in `ns_bench/profiles/`, or yours: `--profile path/to/mine.toml`."
        " `extends` names a profile, or another file, whose entries it takes where it has none."
    )
    table = _fields("profile", declared(ProfileFile).values())
    return render(b.Page("Keys of a profile", [b.Paragraph(about), table]))


def cluster() -> str:
    """Every key of a cluster's file."""
    about = "A cluster is a TOML file in `slurm/`, or yours: `--cluster path/to/mine.toml`."
    table = _fields("cluster", declared(Cluster).values())
    return render(b.Page("Keys of a cluster", [b.Paragraph(about), table]))


def _fields(title: str, rows: Iterable[Field]) -> b.Table:
    def used(field: Field) -> str:
        return f"; only {', '.join(field.used)}" if field.used else ""

    return b.tabulate(
        title,
        rows,
        ("field", lambda field: b.Span(field.name, code=True)),
        ("default", lambda field: b.Span(_toml(field.default), code=True)),
        ("meaning", lambda field: field.meaning + used(field)),
        ("values", lambda field: field.expected),
    )


def _toml(value: Any) -> str:
    words = {True: "true", False: "false", None: "none"}
    if isinstance(value, bool | None):
        return words[value]
    return (
        f'"{value}"' if isinstance(value, str) else f"{value}".replace("(", "[").replace(")", "]")
    )


def json_document() -> str:
    """Every key of what --json prints."""
    about = inspect.cleandoc(results.__doc__ or "").split("\n\n")[1]
    parts: list[b.Block] = [b.Paragraph(f"`schema` is {results.SCHEMA}. {about}")]
    for kind in _kinds(results.Document):
        text = inspect.cleandoc(kind.__doc__ or "")
        what, _, attributes = text.partition("Attributes:")
        parts += [b.Heading(kind.__name__), b.Paragraph(what), _keys(kind, attributes)]
    return render(b.Page("What --json prints", parts))


def _kinds(kind: Any) -> list[Any]:
    """Return a dataclass and those that its values are, each once."""
    found = [kind]
    for hint in get_type_hints(kind).values():
        inner = [each for each in (hint, *get_args(hint)) if is_dataclass(each)]
        found += [each for one in inner for each in _kinds(one)]
    return list(dict.fromkeys(found))


def _keys(kind: Any, attributes: str) -> b.Table:
    said: dict[str, str] = {}
    for names, meaning in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", attributes, re.M):
        said |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return b.tabulate(
        kind.__name__,
        get_type_hints(kind).items(),
        ("key", lambda item: b.Span(item[0], code=True)),
        ("value", lambda item: _json_type(item[1])),
        ("meaning", lambda item: said.get(item[0], "")),
    )


def _json_type(hint: Any) -> str:
    kinds = [kind for kind in get_args(hint) if kind is not ...]
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_json_type, kinds))
    if get_origin(hint) in (list, tuple):
        return f"list of {_json_type(kinds[0])}"
    named = {int: "number", float: "number or null", str: "text", bool: "true or false"}
    return (
        "null" if hint is type(None) else named.get(hint) or ("object" if kinds else hint.__name__)
    )


def findings() -> str:
    """The README's table of the ten findings, from the published tables."""
    pairs = [(study, scale) for study in study_names() for scale in profile_names()]
    there = [pair for pair in pairs if (PUBLISHED / "{}-{}/runs.csv".format(*pair)).exists()]
    found = [from_tables(load_study(s), load_profile(p), PUBLISHED) for s, p in there]
    table = headlines.brief([analysis for analysis in found if analysis])
    return render(b.Page("", [table])).removeprefix("# \n\n")


PAGES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "recipe": recipe,
    "profile": profile,
    "cluster": cluster,
    "json": json_document,
}
_TABLE = re.compile(r"\| finding \|.*?\n(?=\n)", re.S)


def readme(table: str) -> str:
    """Return the README with the table in it."""
    return _TABLE.sub(lambda _: table, (ROOT / "README.md").read_text(encoding="utf-8"))


def main() -> None:
    """Write all of it."""
    for name, page in PAGES.items():
        (ROOT / f"docs/reference/{name}.md").write_text(page(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(findings()), encoding="utf-8")


if __name__ == "__main__":
    main()
