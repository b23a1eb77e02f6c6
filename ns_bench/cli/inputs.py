"""What the options of a command name, read: profile, data, cluster and store."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ns_bench.arguments import assigned
from ns_bench.cli.options import RunOptions
from ns_bench.data.catalog import describe
from ns_bench.design.cost import counted, learn, shape_of
from ns_bench.design.profile import Profile, load_profile
from ns_bench.errors import UserError, unknown
from ns_bench.execute.slurm.cluster import Cluster, load_cluster
from ns_bench.files import read_toml
from ns_bench.recipe import NO_FILES, Recipe, dotted, own_code, pretrained

FEWEST_STAGES = 4
"""That every network that was counted has before its last."""


@dataclass(frozen=True)
class Setting:
    """Where a command works, and at which scale.

    Attributes:
        assignments: {dotted recipe field: value} of --recipe and --set, which are in `profile`.
        paths: {data set: where its files are}.
        cluster: None is this machine.
    """

    profile: Profile
    assignments: dict[str, Any]
    paths: dict[str, str]
    cluster: Cluster | None

    @property
    def changed(self) -> dict[str, str]:
        """The assignments as a report names them."""
        return {name: str(value) for name, value in self.assignments.items()}


def read_setting(options: RunOptions, recipe: Path | None = None) -> Setting:
    """Read what the options name.

    Args:
        recipe: a TOML file of recipe fields; --set goes before it.

    Raises:
        UserError: an unknown name or field, a value of the wrong type or range, an unreadable file.
    """
    cluster = None
    if options.cluster != "local":
        cluster = load_cluster(options.cluster).using(options.execution)
    assignments = {**_read_recipe(recipe), **assigned(options.assignments)}
    profile = load_profile(options.profile, assignments)
    _check_models(profile)
    return Setting(profile, assignments, _paths(options.data, profile), cluster)


def find_inputs(recipes: Sequence[Recipe], store: Path, paths: dict[str, str]) -> None:
    """Have what recipes need ready, before any run starts: data sets in files, your own code.

    Raises:
        UserError: one is not there, or not as it is described.
    """
    own_code.keep({name for recipe in recipes for name in recipe.code}, store)
    pretrained.keep([recipe.canonical() for recipe in recipes], store)
    specs = [recipe.data for recipe in recipes]
    if any(describe(spec).file_sets for spec in specs):
        from ns_bench.data.prepare import prepare

        prepare(specs, store, paths)


def _check_models(profile: Profile) -> None:
    """Refuse a table [model.NAME] that no recipe could ever start from."""
    usual = {*profile.ladder.values(), *profile.architectures.values(), *counted()}
    for model in profile.by_model:
        if model not in usual:
            from ns_bench.selftrain.models import known  # it imports torch: only where in doubt

            if not known(model):
                raise unknown(f"model of profile {profile.file or profile.name}:", model, usual)


def check_networks(recipes: Iterable[Recipe]) -> None:
    """Refuse networks that nobody knows, or that cannot see the images; price those that no table
    has.

    Only these are built, without memory for their weights: it takes torch and a second each.

    Raises:
        UserError: unknown model (names the nearest), images of a wrong size, weights that are not
            this network's, or fewer stages than are to stay as they are.
    """
    runs = [run for recipe in recipes for run in recipe.generations]
    usual = counted()
    for shape in dict.fromkeys(map(shape_of, runs)):
        if shape.model not in usual and not own_code.is_reference(shape.model):
            from ns_bench.selftrain.count import count

            try:
                learn(shape, *count(shape))
            except UserError:
                raise
            except Exception as error:  # of timm or torch, whatever the network makes of the size
                why = " ".join(str(error).split())[:200]
                raise UserError(
                    f"{shape.model} cannot be built for images of {shape.side} pixels: {why}"
                ) from None
    for model, frozen in dict.fromkeys((run.model, run.train.frozen) for run in runs):
        if frozen > FEWEST_STAGES and not own_code.is_reference(model):
            from ns_bench.selftrain.models import stages

            if frozen > stages(model):
                raise UserError(
                    f"train.frozen={frozen}: expected at most {stages(model)}, the stages that "
                    f"{model} has before its last"
                )
    for run in runs:
        if run.pretrained:
            from ns_bench.selftrain.models import check_pretrained

            check_pretrained(run.model, str(run.pretrained))


def _paths(texts: Sequence[str], profile: Profile) -> dict[str, str]:
    """Return {data set: where its files are} of a profile and of `--data`, which goes first.

    Raises:
        UserError: --data is not NAME=PATH, or of a set that the profile does not use.
    """
    data = Recipe.of(profile.fields).data
    used, pools = data.name, {data.source, profile.other_pool} - {"", *NO_FILES}
    files = describe(data).file_set
    known = [*(files.names if files else []), *sorted(pools)]
    paths = dict(profile.paths)
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UserError(f"--data {text}: expected NAME=PATH, for example {used}=data/{used}")
        if not known:
            raise UserError(f"--data {text}: '{used}' of profile '{profile.name}' has no files")
        if name not in known:
            raise unknown(f"data set of profile '{profile.name}'", name, known)
        if not Path(path).expanduser().is_dir():
            raise UserError(f"--data {text}: there is no such folder")
        paths[name] = path
    return paths


def _read_recipe(path: Path | None) -> dict[str, Any]:
    """Return {field: value} of a TOML file of recipe fields; {} without one."""
    return {} if path is None else dotted(read_toml(path, f"--recipe {path}"))
