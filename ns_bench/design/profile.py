"""The scale at which studies run: data, models, training, number of seeds, from a TOML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ns_bench.data.catalog import describe
from ns_bench.design import cost
from ns_bench.design.schedule import Schedule
from ns_bench.errors import UserError, located, unknown
from ns_bench.fields import build, convert, default, needed, table
from ns_bench.files import read_toml
from ns_bench.recipe import Recipe, dotted, read_fields


@dataclass(frozen=True)
class Gpu:
    """A named GPU, and who measured what such training gets out of it."""

    name: str = needed("of the GPU")
    tflops: float = needed("TFLOP/s of training", "(0, 1000000]")
    source: str = needed("who measured that")


@dataclass(frozen=True)
class Profile:
    """The scale at which studies run.

    Attributes:
        fields: dotted recipe fields that every recipe of the profile starts from.
        ladder: {rung: model}, from small to large.
        seeds: how many reporting seeds (0, 1, ...) a study has by default.
        smallest_effect: on test top-1 that matters here, in points.
        verdict: False for trial runs, which show numbers and judge nothing.
        step_seconds: {model: [seconds a step, seconds an image]} on `machine`, for estimates.
        pixels: {model: side of the images at which they were measured}, where that is known.
        speed: how many times faster the workers are than `machine`.
        gpu: for models without `step_seconds`: estimates are from their FLOPs.
        run_megabytes: that a run takes in the store where its model's size is not known.
        space: what a search may change, see `ns_bench.tuning.space`.
        architectures: {architecture: model}, about as large as each other, where the profile has
            several families of networks.
        other_pool: data set of another domain that an unlabeled pool can be from; "" is none.
        file: of a profile of one's own, as it was given; "" for those that come with the package.
        paths: {data set: where its files are}, unless --data says another place.
        schedule: of studies that run until they are decided: `looks` and `spending`.
        by_model: {model: dotted recipe fields} that a recipe of this model starts from, instead of
            those in `fields`. What --set says is in neither table.
    """

    name: str
    title: str
    fields: dict[str, Any]
    ladder: dict[str, str]
    seeds: int
    smallest_effect: float
    verdict: bool = True
    machine: str = ""
    step_seconds: dict[str, tuple[float, float]] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)
    speed: float = 1.0
    gpu: "Gpu | None" = None
    run_megabytes: float = 1.0
    space: dict[str, Any] = field(default_factory=dict)
    architectures: dict[str, str] = field(default_factory=dict)
    other_pool: str = ""
    file: str = ""
    paths: dict[str, str] = field(default_factory=dict)
    by_model: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def rungs(self) -> list[str]:
        return list(self.ladder)

    def supervised(self, rung: str, **fields: Any) -> Recipe:
        """Return a recipe for labeled images only; `fields` as in `Recipe.set`, `__` for dots."""
        return Recipe.of(self._fields(rung, fields))

    def student(self, rung: str, teacher: Recipe, **fields: Any) -> Recipe:
        """Return a recipe for the noisy student of `teacher`."""
        return Recipe.of(self._fields(rung, fields), teacher)

    def _fields(self, rung: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        if rung not in self.ladder:
            raise unknown(f"rung of profile '{self.name}'", rung, self.ladder)
        dotted = {name.replace("__", "."): value for name, value in fields.items()}
        model = self.ladder[rung]
        return {**self.fields, "model": model, **self.by_model.get(model, {}), **dotted}

    def estimate(self, recipe: Recipe) -> float:
        """Return the seconds one worker needs; a rough figure. An image's go by its area."""
        if self.gpu is not None and recipe.model not in self.step_seconds:
            work = cost.flops(recipe)
            if work is not None:
                return work / (1e12 * self.gpu.tflops * self.speed)
        slowest = max(self.step_seconds, key=lambda model: self.step_seconds[model], default="")
        model = recipe.model if recipe.model in self.step_seconds else slowest
        step, image = self.step_seconds.get(model, (0.01, 0.0005))
        if side := self.pixels.get(model):
            image *= (cost.shape_of(recipe).side / side) ** 2
        return (step * recipe.steps + image * recipe.passes) / self.speed

    def measured(self, recipe: Recipe) -> bool:
        """Whether the estimate is of the recipe's own network, and not of the slowest known one."""
        counted = self.gpu is not None and cost.flops(recipe) is not None
        return counted or recipe.model in self.step_seconds

    def shortened(self, share: float, rate: float = 1.0) -> dict[str, Any]:
        """Return the fields of a run of `share` of the epochs at `rate` times the learning rate.

        Warm-up and decay are shortened with it, so that the rate ends as far down.
        """
        return {
            "train__epochs": max(round(share * self.base("train.epochs")), 1),
            "train__warmup_epochs": share * self.base("train.warmup_epochs"),
            "train__decay_epochs": share * self.base("train.decay_epochs"),
            "train__lr": rate * self.base("train.lr"),
        }

    @property
    def pool(self) -> int:
        """Images in the unlabeled pool."""
        return describe(Recipe.of(self.fields).data).pool

    @property
    def other_images(self) -> int:
        """Images that a pool from `other_pool` has, and the profile's own has as well."""
        fields = {**self.fields, "data.source": self.other_pool, "data.unlabeled": 0}
        return min(self.pool, describe(Recipe.of(fields).data).pool)

    def mixed_pool(self, share: float) -> dict[str, Any]:
        """Return the fields of a recipe of whose pool this share is out of domain: images of the
        data set itself, if it has such, or of `other_pool`; {} where neither can be."""
        for source in ("", self.other_pool):
            fields = {"data.out_of_domain": share, "data.source": source}
            try:
                describe(Recipe.of({**self.fields, **fields}).data)
            except UserError:
                continue
            return {name.replace(".", "__"): value for name, value in fields.items() if value}
        return {}

    def base(self, field: str) -> Any:
        """Return the value of a dotted field in this profile's small students."""
        small = self.rungs[0]
        return self.student(small, self.supervised(small)).field(field)


@dataclass(frozen=True)
class _Estimate:
    machine: str = default("", "what the seconds were measured on")
    step_seconds: dict[str, tuple[float, float]] = default(
        {}, "{model: [seconds a step, seconds an image]}", "[0, 1000000]"
    )
    pixels: dict[str, int] = default({}, "{model: side of the images of that}", "[1, 100000]")
    run_megabytes: float = default(1.0, "that a run takes in the store", "[0, 1e9]")
    gpu: Gpu | None = default(None, "for models without step_seconds")


@dataclass(frozen=True)
class _Files:
    path: str = default("", "where the files of the data set are, seen from the profile's folder")


@dataclass(frozen=True)
class ProfileFile:
    """A profile's file. Every entry can also come from the profile that it extends."""

    title: str = default("", "one line")
    seeds: int = default(1, "reporting seeds (0, 1, ...) of a study", "[1, 1000]")
    smallest_effect: float = default(1.0, "on test top-1 that matters, in points", "[0, 100]")
    verdict: bool = default(True, "whether claims are judged")
    looks: tuple[int, ...] = default(Schedule.looks, "of a study until it is decided", "[1, 1000]")
    spending: tuple[float, ...] = default(Schedule.spending, "shares of alpha by them", "[0, 1]")
    ladder: dict[str, str] = default({}, "{rung: model}, from small to large")
    architectures: dict[str, str] = default({}, "{family of networks: model}")
    other_pool: str = default("", "data set of another domain for unlabeled pools")
    recipe: dict[str, Any] = default({}, "recipe fields")
    model: dict[str, dict[str, Any]] = default({}, "{model: recipe fields}")
    search: dict[str, Any] = default({}, "the space of a search")
    estimate: _Estimate = table(_Estimate)
    data: _Files = table(_Files)


_NEEDED = ("title", "seeds", "smallest_effect", "ladder", "recipe")
_PROFILES = Path(__file__).parents[1] / "profiles"


def profile_names() -> list[str]:
    return sorted(path.stem for path in _PROFILES.glob("*.toml"))


def read_profile(name: str) -> ProfileFile:
    """Read a profile's file, with what is in those that it extends.

    Raises:
        UserError: unknown profile or entry, a needed one that is not there, a wrong type or range.
    """
    tables = _read(name)
    for key in _NEEDED:
        if not tables.get(key):
            raise UserError(
                f'profile {name}: there is no {key}; a line like extends = "digits" takes what '
                "is not there from another profile"
            )
    file: ProfileFile = build(ProfileFile, tables)
    return file


def load_profile(name: str, assignments: Mapping[str, Any] | None = None) -> Profile:
    """Load a profile, or the one in the file `name` if it ends in `.toml`, and apply `--set`
    assignments to its base recipe.

    A file is TOML: title, seeds, verdict, [ladder], [recipe] with dotted fields, [model.NAME] with
    those that are others for a model, [estimate], [search], [data] with the path of the data set's
    files; and `extends`, the name of a profile (or another file) whose entries it overrides. What
    an arm of a study says of a field goes before --set, that before [model.NAME], that before
    [recipe].

    Raises:
        UserError: unknown profile or field, or a value of the wrong type or range.
    """
    own = name.endswith(".toml")
    short = Path(name).stem if own else name
    if own and short in profile_names():
        raise UserError(f"profile {name}: '{short}' is a profile already, give yours another name")
    file = read_profile(name)
    if "model" in (assignments or {}):
        ladder = ", ".join(f"{rung} = {model}" for rung, model in file.ladder.items())
        raise UserError(
            f"'model' is not set by hand: profile '{name}' maps its ladder to models ({ladder}); "
            f'a profile of your own, a file with extends = "{name}", says another in its [ladder]'
        )
    with located(f"profile {name}"):
        fields = _checked(dotted(file.recipe))
        schedule = Schedule(file.looks, file.spending)
    fields = _checked({**fields, **(assignments or {})})
    for text in (file.title, file.estimate.machine):
        if not text.isprintable():  # a page's heading, a line of a dry run
            raise UserError(f"profile {name}: {text!r}: expected one line")
    used = {*file.ladder.values(), *file.architectures.values()}
    estimate = file.estimate
    return Profile(
        name=short,
        title=file.title,
        fields=fields,
        ladder=file.ladder,
        seeds=file.seeds,
        smallest_effect=file.smallest_effect,
        verdict=file.verdict,
        machine=estimate.machine or (estimate.gpu.name if estimate.gpu else ""),
        step_seconds={m: cost for m, cost in estimate.step_seconds.items() if m in used},
        pixels=estimate.pixels,
        gpu=estimate.gpu,
        run_megabytes=estimate.run_megabytes,
        space=file.search,
        architectures=file.architectures,
        other_pool=file.other_pool,
        file=name if own else "",
        paths={Recipe.of(fields).data.name: file.data.path} if file.data.path else {},
        schedule=schedule,
        by_model=_by_model(name, file.model, fields, assignments or {}),
    )


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields that a recipe and its student can have, so that a wrong one is named before a
    study is built."""
    Recipe.of(fields, Recipe.of(fields))
    return fields


def _by_model(
    name: str, tables: Mapping[str, Any], fields: dict[str, Any], assignments: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the tables [model.NAME] of a profile as dotted fields, without what --set says."""
    by_model = {}
    for model, own in tables.items():
        values = {key: value for key, value in dotted(own).items() if key not in assignments}
        with located(f"profile {name}: [model.{model}]"):
            for key in dotted(own):
                if key == "model" or key.startswith("data."):  # teacher and student share these
                    raise UserError(f"{key}: expected in [recipe]")
            _checked({**fields, **values})
        by_model[model] = values
    return by_model


def _read(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the tables of a profile's file, on top of those of the profile that it extends."""
    path = Path(name) if name.endswith(".toml") else _PROFILES / f"{name}.toml"
    if not name.endswith(".toml") and name not in profile_names():
        raise unknown("profile", name, profile_names())
    own = read_toml(path, f"profile {name}")
    with located(f"profile {name}"):
        below = convert(own.pop("extends", ""), str, "extends")
    if below.endswith(".toml"):
        below = str(path.parent / below)
    if below in (name, *above):
        raise UserError(f"profile {name}: it extends itself")
    tables = _merge(_read(below, (name, *above)), own) if below else own
    with located(f"profile {name}"):
        read_fields(dotted(build(ProfileFile, tables).recipe))
    if "path" in own.get("data", {}):
        tables["data"]["path"] = str(path.parent / Path(own["data"]["path"]).expanduser())
    return tables


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in above.items():
        old = below.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            below[key] = _merge(old, value)
        else:
            below[key] = value
    return below
