"""The scale at which studies run: data, models, training, number of seeds, from a TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ns_bench.data.catalog import describe
from ns_bench.design import cost
from ns_bench.design.schedule import Schedule
from ns_bench.errors import UserError, unknown
from ns_bench.recipe import HISTORICAL_DEFAULTS, Recipe


@dataclass(frozen=True)
class Gpu:
    """A named GPU: the TFLOP/s that such training gets out of it, and who measured that."""

    name: str
    tflops: float
    source: str


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
    step_seconds: dict[str, list[float]] = field(default_factory=dict)
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
        """Return the seconds one worker of the reference machine needs; a rough figure."""
        if self.gpu is not None and recipe.model not in self.step_seconds:
            work = cost.flops(recipe)
            if work is not None:
                return work / (1e12 * self.gpu.tflops)
        slowest = max(self.step_seconds.values(), default=[0.01, 0.0005])
        step, image = self.step_seconds.get(recipe.model, slowest)
        return step * recipe.steps + image * recipe.passes

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


_PROFILES = Path(__file__).parents[1] / "profiles"


def profile_names() -> list[str]:
    return sorted(path.stem for path in _PROFILES.glob("*.toml"))


_KEYS: dict[str, tuple[Any, str]] = {
    "title": (str, "text"),
    "seeds": (int, "a whole number"),
    "smallest_effect": ((int, float), "a number"),
    "ladder": (dict, "a table {rung = model}"),
    "recipe": (dict, "a table of recipe fields"),
    "architectures": (dict, "a table {architecture = model}"),
    "other_pool": (str, "the name of a data set"),
    "estimate": (dict, "a table"),
    "search": (dict, "a table"),
    "data": (dict, "a table with path"),
    "model": (dict, "a table {model = a table of recipe fields}"),
    "verdict": (bool, "true or false"),
    "extends": (str, "the name of a profile"),
    "looks": (list, "a list of numbers of seeds"),
    "spending": (list, "a list of shares of alpha"),
}
"""What a profile's file may hold: its type, and that type in words."""

_NEEDED = ("title", "seeds", "smallest_effect", "ladder", "recipe")


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
    values = _read_profile(name)
    for key in _NEEDED:
        if key not in values:
            raise UserError(
                f'profile {name}: there is no {key}; a line like extends = "digits" takes what '
                "is not there from another profile"
            )
    fields = {**dotted(values["recipe"]), **(assignments or {})}
    recipe = Recipe.of(fields, Recipe.of(fields))  # a wrong field is named before a study is built
    ladder, architectures = values["ladder"], values.get("architectures", {})
    by_model = _by_model(name, values.get("model", {}), fields, assignments or {})
    if assignments and "model" in assignments:
        raise UserError(
            f"'model' is not set by hand: profile '{name}' maps its ladder to models "
            f"({', '.join(f'{rung} = {model}' for rung, model in ladder.items())})"
        )
    estimate = {
        "machine": "",
        "step_seconds": {},
        "run_megabytes": 1.0,
        **values.get("estimate", {}),
    }
    measured, gpu = estimate["step_seconds"], _gpu(name, estimate.get("gpu"))
    path = values.get("data", {}).get("path")
    return Profile(
        name=short,
        title=values["title"],
        fields=fields,
        ladder=ladder,
        seeds=values["seeds"],
        smallest_effect=values["smallest_effect"],
        verdict=values.get("verdict", True),
        machine=estimate["machine"] or (gpu.name if gpu else ""),
        step_seconds={
            model: measured[model]
            for model in (*ladder.values(), *architectures.values())
            if model in measured
        },
        gpu=gpu,
        run_megabytes=estimate["run_megabytes"],
        space=values.get("search", {}),
        architectures=architectures,
        other_pool=values.get("other_pool", ""),
        file=name if own else "",
        paths={} if path is None else {recipe.data.name: path},
        by_model=by_model,
        schedule=_schedule(name, values),
    )


def _schedule(name: str, values: Mapping[str, Any]) -> Schedule:
    """Return the schedule that a profile states; the spending has to fit its looks."""
    usual = Schedule()
    looks = values.get("looks", list(usual.looks))
    spending = values.get("spending", list(usual.spending))
    for key, listed, kinds in (("looks", looks, int), ("spending", spending, (int, float))):
        if not all(isinstance(v, kinds) and not isinstance(v, bool) for v in listed):
            raise UserError(f"profile {name}: {key} = {listed}: expected {_KEYS[key][1]}")
    try:
        return Schedule(tuple(looks), tuple(map(float, spending)))
    except UserError as error:
        raise UserError(f"profile {name}: {error}") from None


def _gpu(name: str, table: Any) -> Gpu | None:
    if table is None:
        return None
    kinds: dict[str, Any] = {"name": str, "tflops": (int, float), "source": str}
    if not isinstance(table, dict) or table.keys() != kinds.keys():
        raise UserError(f"profile {name}: estimate.gpu: expected name, tflops and source")
    for key, kind in kinds.items():
        if not isinstance(table[key], kind) or isinstance(table[key], bool) or not table[key]:
            raise UserError(f"profile {name}: estimate.gpu.{key} = {table[key]!r}: expected "
                            f"{'text' if kind is str else 'a number above 0'}")  # fmt: skip
    if table["tflops"] <= 0:
        raise UserError(f"profile {name}: estimate.gpu.tflops: expected a number above 0")
    return Gpu(**table)


def _by_model(
    name: str, tables: Mapping[str, Any], fields: dict[str, Any], assignments: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the tables [model.NAME] of a profile as dotted fields, without what --set says."""
    found = {}
    for model, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(
                f"profile {name}: model.{model} = {table!r}: expected a table of fields"
            )
        flat = dotted(table)
        for key in flat:
            if key == "model" or key.startswith("data."):  # teacher and student share these
                raise UserError(f"profile {name}: {key} in [model.{model}]: expected in [recipe]")
        found[model] = {key: value for key, value in flat.items() if key not in assignments}
        try:
            own = Recipe.of({**fields, **found[model]})
            Recipe.of({**fields, **found[model]}, own)
        except UserError as error:
            raise UserError(f"profile {name}, [model.{model}]: {error}") from None
    return found


def _read_profile(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    if not name.endswith(".toml"):
        if name not in profile_names():
            raise unknown("profile", name, profile_names())
        path = _PROFILES / f"{name}.toml"
    else:
        path = Path(name)
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"profile {name} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"profile {name} is not TOML: {error}") from None
    for key, value in values.items():
        if key not in _KEYS:
            raise unknown(f"key of profile {name}:", key, _KEYS)
        kind, wanted = _KEYS[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"profile {name}: {key} = {value!r}: expected {wanted}")
    for rung, model in values.get("ladder", {}).items():
        if not isinstance(model, str):
            raise UserError(f"profile {name}: ladder.{rung} = {model!r}: expected a model's name")
    place = values.get("data", {})
    for key, value in place.items():
        if key != "path":
            raise unknown(f"key of [data] in profile {name}:", key, ["path"])
        if not isinstance(value, str):
            raise UserError(f"profile {name}: data.path = {value!r}: expected text")
        place[key] = str(path.parent / Path(value).expanduser())
    if "extends" not in values:
        return values
    below = values.pop("extends")
    if below.endswith(".toml"):
        below = str(path.parent / below)
    if below in (name, *above):
        raise UserError(f"profile {name}: it extends itself")
    return _merge(_read_profile(below, (name, *above)), values)


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in above.items():
        below[key] = _merge(below.get(key, {}), value) if isinstance(value, dict) else value
    return below


def dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables of recipe fields as {dotted field: value}."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in HISTORICAL_DEFAULTS:
            flat |= dotted(value, f"{name}.")
        else:
            flat[name] = value
    return flat
