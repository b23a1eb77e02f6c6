"""A command's arguments as a frozen dataclass: declared once, read by argparse, written back.

    @dataclass(frozen=True, kw_only=True)
    class Options:
        study: str = positional("the study to run")
        seeds: int | None = option("seeds 0 to N-1", type=whole_number, metavar="N")
        dry_run: bool = option("do nothing", default=False)

    options = parse(Options, ["noise", "--seeds", "3"])
    words(options)  # ["--seeds=3", "--", "noise"], which are read as the same options

A field is called as its option is (`dry_run` is --dry-run), unless `flag` says otherwise. A default
of False makes a switch, one of () an option that may be given several times. A field whose default
is itself such a dataclass brings the options of that dataclass along.
"""

import argparse
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ns_bench.errors import UserError

Options = TypeVar("Options")


def option(
    help: str, *, default: Any = None, flag: str = "", exclusive: str = "", **keywords: Any
) -> Any:
    """Return a dataclass field that is an option of a command.

    Args:
        exclusive: of the options with the same word here, at most one may be given.
        keywords: of `ArgumentParser.add_argument`: type, metavar, choices, nargs, const, required.
    """
    keywords = {"help": help, "default": argparse.SUPPRESS, **keywords}
    if default is False:
        keywords["action"] = "store_true"
    elif default == ():
        keywords["action"] = "append"
    metadata = {"flag": flag, "exclusive": exclusive, "keywords": keywords}
    return field(default=MISSING if "required" in keywords else default, metadata=metadata)


def positional(help: str, **keywords: Any) -> Any:
    """Return a dataclass field that is an argument without a flag; None where it may be left out
    (`nargs="?"`) and is."""
    metadata = {"keywords": {"help": help, "default": argparse.SUPPRESS, **keywords}}
    return field(default=None if "nargs" in keywords else MISSING, metadata=metadata)


def parse(kind: type[Options], arguments: Sequence[str] | None, **about: Any) -> Options:
    """Return what `arguments` ask for (None: those of this process).

    Args:
        kind: a dataclass of fields made by `option` and `positional`.
        about: prog, description and epilog of the `ArgumentParser`.

    Raises:
        SystemExit: --help, or with exit code 2 and a line on what is not understood.
    """
    return _build(kind, vars(parser(kind, **about).parse_args(arguments)))


def parser(kind: Any, **about: Any) -> argparse.ArgumentParser:
    """Return what reads the arguments of a command; see `parse`."""
    parser = _Parser(**about)
    groups: dict[str, Any] = {}
    for argument in _arguments(kind):
        keywords, word = argument.metadata["keywords"], argument.metadata.get("exclusive")
        if word and word not in groups:
            groups[word] = parser.add_mutually_exclusive_group()
        add = groups[word].add_argument if word else parser.add_argument
        if "flag" in argument.metadata:
            add(_flag(argument), dest=argument.name, **keywords)
        else:
            add(argument.name, **keywords)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says in one line what is not understood, with the option that is nearest to it."""

    def error(self, message: str) -> NoReturn:
        wrong = message.partition("unrecognized arguments: ")[2].partition(" ")[0].partition("=")[0]
        near = difflib.get_close_matches(wrong, self._option_string_actions, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if wrong and near else "--help lists all options"
        self.exit(2, f"ns_bench: {message}; {hint}\n")


def words(options: Any) -> list[str]:
    """Return the words of a command line that are read as `options`; defaults are left out."""
    flags: list[str] = []
    places: list[str] = []
    for argument in fields(options):
        value = getattr(options, argument.name)
        if is_dataclass(value):
            flags += words(value)
        elif value == argument.default:
            continue
        elif "flag" not in argument.metadata:
            places.append(str(value))
        elif value is True:
            flags.append(_flag(argument))
        else:
            values = value if isinstance(value, tuple) else (value,)
            flags += [f"{_flag(argument)}={item}" for item in values]
    return [*flags, "--", *places] if places else flags


def assigned(texts: Sequence[str]) -> dict[str, str]:
    """Return {field: value} of what --set was given. UserError: it is not FIELD=VALUE."""
    pairs = [text.partition("=") for text in texts]
    for text, (_, equals, value) in zip(texts, pairs, strict=True):
        if not equals or not value:
            raise UserError(f"--set {text}: expected FIELD=VALUE, for example train.lr=0.1")
    return {field.strip(): value.strip() for field, _, value in pairs}


def whole_number(text: str) -> int:
    """Read a whole number from 1 to a million."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"'{text}': expected a whole number from 1 to 1000000")
    return value


def text(given: str) -> str:
    """Read text that can name something: not empty, and in one line."""
    if not given.strip() or not given.isprintable():
        raise argparse.ArgumentTypeError(f"{given!r}: expected a name")
    return given


def path(given: str) -> Path:
    """Read a path: see `text`."""
    return Path(text(given))


def _flag(argument: Field[Any]) -> str:
    return argument.metadata["flag"] or f"--{argument.name.replace('_', '-')}"


def _arguments(kind: Any) -> Iterator[Field[Any]]:
    for argument in fields(kind):
        if is_dataclass(argument.default):
            yield from _arguments(argument.default)
        else:
            yield argument


def _build(kind: Any, given: Mapping[str, Any]) -> Any:
    """Return the dataclass with what was given, and its defaults elsewhere."""
    values = {}
    for argument in fields(kind):
        if is_dataclass(argument.default):
            values[argument.name] = _build(type(argument.default), given)
        elif argument.name in given:
            value = given[argument.name]
            values[argument.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
