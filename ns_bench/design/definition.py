"""What a study is: a factor's arms, a baseline, and claims stated before any run.

A study is written once, against the ladder of a `Profile` (`small` ... `large`), and runs in every
profile. Every claim is about linear contrasts of arms, computed per seed: a difference, a trend and
an interaction are the same thing with other weights.
"""

import contextlib
import importlib.util
import math
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ns_bench.design.profile import Profile
from ns_bench.design.schedule import Schedule
from ns_bench.errors import UserError, unknown
from ns_bench.files import folder
from ns_bench.recipe import Recipe, own_code

TUNING_SEEDS = 1000
"""Seeds from here on tune and pilot; none of them is reported."""


@dataclass(frozen=True)
class Arm:
    """One level of a study's factor: a recipe but for the seed.

    `paper` names the row of reports/paper.csv that stands beside it, where there is one.
    """

    name: str
    recipe: Recipe
    paper: str = ""


Weights = dict[str, float]
"""A contrast: {arm: weight}. Its value at a seed is the weighted sum of what the arms have of the
claim's metric: test top-1, unless it says another."""


Kind = Literal["greater", "not worse", "equivalent"]


@dataclass(frozen=True)
class Claim:
    """A statement about the test top-1 of arms, or another metric, made before the runs it is for.

    Attributes:
        text: the finding in one sentence.
        contrasts: what the claim is about; of several, each has to hold.
        smallest_effect: of interest, in `unit`. Smaller ones do not matter.
        kind: `greater`: the contrast is above 0; `not worse`: it is not below 0 by an effect that
            matters; `equivalent`: it is 0 for all that matters.
        paper: the same contrast of the paper's rows, {arm of reports/paper.csv: weight}.
        note: what has to be known of the paper's figure, in words.
        untestable: why this profile cannot test the claim; "" where it can.
        metric: what is compared, `test_METRIC` of the table of runs; `smallest_effect` is in its
            unit. What `ns_bench.robustness` measures is called GROUP_NAME, e.g. `corruption_top1`.
        logarithm: compare the metric's logarithm to base 2, for one whose effects are shares of
            what there is: 1 more is twice as much, .15 more a tenth.
        paper_metric: metric of reports/paper.csv in which `paper` is.
        in_paper: whether the paper says so; claims of ours are counted apart.
        seen: {profile: seeds that had been run when it was stated}, where there were any. Everyone
            who reads its verdict there is told.
    """

    text: str
    contrasts: tuple[Weights, ...]
    smallest_effect: float
    kind: Kind = "greater"
    unit: str = "points"
    paper: Weights = field(default_factory=dict)
    note: str = ""
    untestable: str = ""
    metric: str = "top1"
    logarithm: bool = False
    paper_metric: str = "top1"
    in_paper: bool = True
    seen: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vars(self)["metric"] = own_code.reference(self.metric)
        for field_, expected, holds in (
            ("kind", "one of greater, not worse, equivalent", self.kind in get_args(Kind)),
            ("smallest_effect", "a number above 0", 0 < self.smallest_effect < math.inf),
        ):
            if not holds and not self.untestable:
                value = getattr(self, field_)
                raise UserError(f"claim {self.text!r}: {field_}={value}: expected {expected}")

    @property
    def arms(self) -> list[str]:
        """The arms that it compares."""
        return list(dict.fromkeys(arm for weights in self.contrasts for arm in weights))


def minus(arm: str, other: str) -> Weights:
    """Return the contrast `arm` - `other`."""
    return {arm: 1.0, other: -1.0}


def slope(arms: Sequence[str]) -> Weights:
    """Return the least-squares slope over `arms` in order, in points a step of the factor."""
    if len(arms) < 2:
        raise UserError(f"a trend needs two arms or more: {', '.join(arms) or 'none'}")
    center = (len(arms) - 1) / 2
    scale = sum((i - center) ** 2 for i in range(len(arms)))
    return {arm: (i - center) / scale for i, arm in enumerate(arms)}


def combine(*terms: tuple[float, Weights]) -> Weights:
    """Return the weighted sum of contrasts: an interaction is one minus another."""
    total: Weights = {}
    for factor, weights in terms:
        for arm, weight in weights.items():
            total[arm] = total.get(arm, 0.0) + factor * weight
    return {arm: weight for arm, weight in total.items() if weight}


def difference(text: str, arm: str, minus: str, smallest_effect: float, **more: Any) -> Claim:
    """Claim about `arm` - `minus`, paired by seed."""
    return Claim(text, ({arm: 1.0, minus: -1.0},), smallest_effect, **more)


def trend(text: str, arms: Sequence[str], smallest_effect: float, **more: Any) -> Claim:
    """Claim about the slope over `arms`; the smallest effect is that from first to last arm."""
    a_step = smallest_effect / (len(arms) - 1) if len(arms) > 1 else smallest_effect
    return Claim(text, (slope(arms),), a_step, **{"unit": "points a step", **more})


def interaction(
    text: str, first: Weights, second: Weights, smallest_effect: float, **more: Any
) -> Claim:
    """Claim about how much larger the contrast `first` is than `second`."""
    return Claim(text, (combine((1, first), (-1, second)),), smallest_effect, **more)


def untestable(text: str, why: str, **more: Any) -> Claim:
    """A claim that the profile has no data for: its verdict says so, and why."""
    return Claim(text, (), 0.0, untestable=why, **more)


@dataclass(frozen=True)
class Design:
    """A study in one profile: its arms, the arm the others are compared with, and its claims."""

    arms: list[Arm]
    baseline: str
    claims: list[Claim]

    def __post_init__(self) -> None:
        for arm in self.arms:
            if not (isinstance(arm, Arm) and isinstance(arm.recipe, Recipe)):
                raise UserError(f"{arm!r:.80} is no arm: expected Arm(NAME, RECIPE)")
            if not isinstance(arm.name, str):
                raise UserError(f"an arm is named {arm.name!r}: expected text")
        names = [arm.name for arm in self.arms]
        compared = (arm for claim in self.claims for arm in claim.arms)
        for name in [self.baseline, *compared]:
            if name not in names:
                raise unknown("arm", name, names)
        if len(set(names)) < len(names):
            raise UserError(f"two arms have one name: {', '.join(names)}")

    def recipes(self, seeds: Iterable[int]) -> dict[tuple[str, int], Recipe]:
        """Return {(arm, seed): recipe}. A seed is end to end: the teachers' too."""
        return {(a.name, seed): a.recipe.at_seed(seed) for seed in seeds for a in self.arms}


@dataclass(frozen=True)
class Study:
    """A question, answered by a design in any profile.

    Attributes:
        question: what a researcher asks, in one sentence.
        factor: what differs between the arms; the x-axis of the figure.
        design: builds the arms and claims against a profile's ladder.
        source: where the paper reports the finding.
        seeds: {profile: seeds}, where a pilot's spread says that the claims need more than the
            profile's own number.
        looked_at: {profile: seeds that had been looked at before `seeds` said how many there are}.
        metrics: groups of `ns_bench.robustness`, or `mine.py:NAME`, that are measured of every arm.
        schedule: when it is looked at if it runs until it is decided; by default the profile's.
        file: that it was loaded from.
    """

    name: str
    question: str
    factor: str
    design: Callable[[Profile], Design]
    source: str
    seeds: Mapping[str, int] = field(default_factory=dict)
    looked_at: Mapping[str, int] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    schedule: Schedule | None = None
    file: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w][\w.-]{0,99}", str(self.name)):  # it names a folder
            raise UserError(f"name={self.name!r}: expected letters, digits, '_', '-' and '.'")

    def in_profile(self, profile: Profile) -> Design:
        """Build the design; what goes wrong in code of one's own is one line with its place.

        Raises:
            UserError: it raises an error, or returns no design.
        """
        file = self.design.__code__.co_filename if hasattr(self.design, "__code__") else self.name
        with _in_file(file):
            design = self.design(profile)
            if not isinstance(design, Design):
                raise UserError(f"design returns {design!r:.80}: expected a Design")
        return design

    def words(self, profile: Profile) -> str:
        """Return how a command names the study in a profile: those of one's own by their files."""
        file = Path(self.file)
        own = file.name if file.resolve().parent != folder("studies").resolve() else ""
        return shlex.join([own or self.name, "--profile", profile.file or profile.name])


@contextlib.contextmanager
def _in_file(file: str) -> Iterator[None]:
    """Turn any error into a line that names a study's file, and the line of it that was at work."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        place = f"{file}:{lines[-1]}" if lines else file
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise UserError(f"study {place}: {kind}{' '.join(str(error).split())}") from error


def study_names() -> list[str]:
    return sorted(p.stem for p in folder("studies").glob("*.py") if not p.stem.startswith("_"))


def load_study(name: str) -> Study:
    """Load the study `name`, or the one in the file `name` if it ends in `.py`.

    Raises:
        UserError: no such study, or a file that defines none.
    """
    path = Path(name) if name.endswith(".py") else folder("studies") / f"{name}.py"
    if not name.endswith(".py") and name not in study_names():
        raise unknown("study", name, study_names())
    if not path.is_file():
        raise UserError(f"study {name}: there is no such file")
    own_code.look_in(path.parent)  # what it names may lie beside it
    spec = importlib.util.spec_from_file_location(f"ns_bench_study_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with _in_file(str(path.absolute())):
        spec.loader.exec_module(module)
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise UserError(f"study {path}: expected a module that sets STUDY = Study(...)")
    return replace(study, file=str(path))
