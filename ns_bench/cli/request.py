"""What a study command was asked: its options, with all that they name, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ns_bench.arguments import assigned
from ns_bench.cli.inputs import Setting, check_networks, read_setting
from ns_bench.cli.options import StudyOptions
from ns_bench.data import catalog
from ns_bench.design.cost import check_labels
from ns_bench.design.definition import TUNING_SEEDS, Design, Study, load_study, study_names
from ns_bench.design.schedule import Schedule
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe, idle_fields
from ns_bench.robustness import GROUPS, groups, groups_in
from ns_bench.runs.plan import Plan, make_plan
from ns_bench.runs.store import Store

if TYPE_CHECKING:
    from ns_bench.tuning.tuned_arms import Tuned
    from ns_bench.verdicts.looks import Standing


@dataclass(frozen=True)
class StudyAtScale:
    """A study in the chosen profile, with its recipes by arm and seed.

    Attributes:
        seeds: to which its arms go; with --until-decided to the next look.
        standing: with --until-decided, where it stands under its schedule.
    """

    study: Study
    design: Design
    recipes: dict[tuple[str, int], Recipe]
    seeds: int
    metrics: tuple[str, ...]
    tuned: "Tuned | None"
    standing: "Standing | None" = None

    @property
    def schedule(self) -> Schedule:
        """When it is looked at."""
        return self.standing.schedule if self.standing else Schedule.fixed(self.seeds)

    @property
    def reported(self) -> list[Recipe]:
        """Recipes of the report: with --tuned those of the study as it is, too."""
        before = self.tuned.before.recipes(range(self.seeds)) if self.tuned else {}
        return [*self.recipes.values(), *before.values()]


@dataclass(frozen=True)
class Request:
    """What a study command was asked, with what its options name."""

    options: StudyOptions
    setting: Setting
    store: Store
    studies: list[StudyAtScale]

    @property
    def title(self) -> str:
        return f"{self.options.study} · {self.setting.profile.name}"

    def plan(self) -> Plan:
        """Compare what the studies need with what is on disk now."""
        return plan_of(self.store, self.studies)


def read(options: StudyOptions) -> Request:
    """Load all that the options name; what contradicts itself is refused.

    Raises:
        UserError: bad input.
    """
    if options.pilot and options.tuned is not None:
        raise UserError("--pilot is of the study as it is: --tuned has no place beside it")
    counts = {"--seeds": options.seeds, "--pilot": options.pilot, "--max-seeds": options.max_seeds}
    for flag, count in counts.items():
        if (count or 0) > TUNING_SEEDS:
            raise UserError(f"{flag} {count}: expected at most {TUNING_SEEDS}")
    _check_until_decided(options)
    _check_json(options)
    setting = read_setting(options, options.recipe)
    metrics = groups(filter(None, map(str.strip, options.metrics.split(","))))
    if options.read_only and not options.runs.is_dir():
        raise UserError(f"store {options.runs}: there is no such folder to read from")
    assert options.study is not None
    names = study_names() if options.study == "all" else [options.study]
    loaded = [load_study(name) for name in names]
    _check([s.in_profile(setting.profile) for s in loaded], options)
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out}: it is there, and no folder")
    store = Store(options.runs, read_only=True)
    studies = [at_scale(study, options, setting, store, metrics) for study in loaded]
    return Request(options, setting, store, studies)


SCORES = ("top1", "top5", "loss", "ece")
"""What is measured of every run on its test rows, and claims may be about."""


def _check(designs: Sequence[Design], options: StudyOptions) -> None:
    """Refuse arms that cannot be, a --set that no run of them uses, a metric that there is not."""
    for claim in (claim for design in designs for claim in design.claims):
        if claim.metric not in SCORES and not groups_in([f"test_{claim.metric}"]):
            known = [*SCORES, *(f"{group}_..." for group in GROUPS), "PATH/mine.py:NAME"]
            raise UserError(
                f"claim {claim.text!r}: metric={claim.metric}: expected one of {', '.join(known)}"
            )
    arms = [arm.recipe for design in designs for arm in design.arms]
    for recipe in arms:
        catalog.check(recipe)
        check_labels(recipe)
    if not options.read_only:
        check_networks(arms)
    for name in assigned(options.assignments):
        if all(name in idle_fields(run) for recipe in arms for run in recipe.generations):
            raise UserError(f"--set {name}: no run of {options.study} uses it")


def _check_json(options: StudyOptions) -> None:
    for name in ("dry_run", "pilot", "status", "cancel", "logs"):
        if options.json and getattr(options, name):
            raise UserError(f"--json shows results: --{name.replace('_', '-')} has none")


def _check_until_decided(options: StudyOptions) -> None:
    if options.max_seeds and not options.until_decided:
        raise UserError(f"--max-seeds {options.max_seeds}: only --until-decided stops there")
    others = {"--seeds": options.seeds, "--pilot": options.pilot, "--tuned": options.tuned}
    for flag, value in others.items():
        if options.until_decided and value is not None:
            raise UserError(f"--until-decided goes by its schedule: {flag} has no place beside it")


def at_scale(
    study: Study, options: StudyOptions, setting: Setting, store: Store, metrics: tuple[str, ...]
) -> StudyAtScale:
    """Give a study its recipes: to the seeds asked for, or as far as its looks lead by now."""
    profile = setting.profile
    design = study.in_profile(profile)
    seeds = options.seeds or study.seeds.get(profile.name, profile.seeds)
    asked = range(TUNING_SEEDS, TUNING_SEEDS + options.pilot) if options.pilot else range(seeds)
    best = None
    if options.tuned is not None:
        from ns_bench.tuning.tuned_arms import tuned

        best = tuned(study, profile, design, store, options.tuned)
        design = best.design
    measured = groups([*study.metrics, *metrics])
    if options.until_decided:
        from ns_bench.verdicts import looks

        changed = setting.changed
        looks.scheduled(store.root, study, profile, changed)
        recorded = looks.recorded(store.root, study, profile, changed)
        looks.require_maximum(recorded, options.max_seeds)
        standing = looks.follow(study, profile, design, store, measured, options.max_seeds, changed)
        recipes, seeds = standing.recipes, standing.seeds
        return StudyAtScale(study, design, recipes, seeds, measured, None, standing)
    return StudyAtScale(study, design, design.recipes(asked), seeds, measured, best)


def plan_of(store: Store, studies: Sequence[StudyAtScale]) -> Plan:
    """Plan the runs of studies; each is measured by what any of them asks for."""
    wanted: dict[str, tuple[str, ...]] = {}
    for study in studies:
        for recipe in study.reported:
            wanted[recipe.id] = groups([*wanted.get(recipe.id, ()), *study.metrics])
    return make_plan(store, (recipe for study in studies for recipe in study.reported), wanted)
