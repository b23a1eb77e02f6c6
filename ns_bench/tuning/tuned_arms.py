"""The searches of a study's arms, and the study with what they found."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ns_bench.design.definition import Design, Study
from ns_bench.design.profile import Profile
from ns_bench.errors import UserError, unknown
from ns_bench.fields import build
from ns_bench.runs.store import Store
from ns_bench.tuning.sampler import check
from ns_bench.tuning.space import changes, for_arm, varied_fields
from ns_bench.tuning.trials import Search, Settings, best_of


@dataclass(frozen=True)
class Choice:
    """What a search found for an arm.

    Attributes:
        fields: of the arm's recipe, as the best trial has them; {} where nothing could be tuned.
        trial: the best trial's number, of so many trials; 0 is the arm's own recipe.
        score, untuned: validation top-1 (%) of the best trial and of the arm's own recipe, at
            tuning seeds; None where nothing was searched, or that recipe failed.
    """

    fields: dict[str, Any]
    trial: int
    trials: int
    score: float | None
    untuned: float | None


@dataclass(frozen=True)
class Tuned:
    """A design whose arms have the best recipes of one search; `before` is what it was."""

    search: str
    design: Design
    before: Design
    choices: dict[str, Choice]


def fingerprint(design: Design) -> str:
    """Return the SHA-256 over the recipes of a design's arms."""
    recipes = "".join(f"{arm.name}={arm.recipe.at_seed(0).id};" for arm in design.arms)
    return hashlib.sha256(recipes.encode()).hexdigest()


def search_of(
    settings: Settings,
    study: Study,
    design: Design,
    name: str,
    store: Store,
    profile: Profile,
    changed: Iterable[str] = (),
) -> Search | None:
    """Return the search of one arm, over what it uses of the space and the study does not vary.

    None where nothing of the space is left.

    Args:
        changed: fields that are set for all arms, as by --set.

    Raises:
        UserError: unknown arm; a sampler that cannot do it.
    """
    names = [arm.name for arm in design.arms]
    if name not in names:
        raise unknown("arm", name, names)
    recipe = design.arms[names.index(name)].recipe
    space = for_arm(settings.space, recipe, varied_fields([arm.recipe for arm in design.arms]))
    if not space:
        return None
    check(settings.sampler, space, len(settings.objectives))
    words, given = study.words(profile), {field: recipe.field(field) for field in changed}
    return Search(store, settings, name, recipe, tuple(space), profile.estimate, words, given)


def tuned(study: Study, profile: Profile, design: Design, store: Store, wanted: str = "") -> Tuned:
    """Return the design with each arm's best recipe, from the searches in the store.

    Args:
        wanted: the search's id; "" where there is only one of this study and profile.

    Raises:
        UserError: there is no such search, or several, or one that is not the same for all arms.
    """
    stored = _searches(study, profile, design, store)
    if not stored or (wanted and wanted not in stored):
        if wanted and stored:
            raise unknown("search", wanted, stored)
        raise UserError(
            f"--tuned: store {store.root} has no search of {study.name} in profile "
            f"'{profile.name}' as it is; "
            f"python -m ns_bench.search {study.words(profile)} --per-arm makes one"
        )
    searches = {
        name: [search_of(settings, study, design, arm.name, store, profile) for arm in design.arms]
        for name, settings in stored.items()
    }
    whole = [name for name, of in searches.items() if all(s is None or s.trials() for s in of)]
    if not wanted and len(whole) > 1:
        raise UserError(f"--tuned: which search? One of {', '.join(sorted(whole))}")
    chosen = wanted or (whole or list(stored))[0]
    choices = {
        arm.name: _choice(search) for arm, search in zip(design.arms, searches[chosen], strict=True)
    }
    counts = {name: choice.trials for name, choice in choices.items() if choice.trials}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise UserError(f"--tuned: the arms of {chosen} had not the same chance: trials {listed}")
    arms = [replace(arm, recipe=arm.recipe.set(choices[arm.name].fields)) for arm in design.arms]
    return Tuned(chosen, replace(design, arms=arms), design, choices)


def _searches(study: Study, profile: Profile, design: Design, store: Store) -> dict[str, Settings]:
    """Return {id: settings} of the searches of this very design."""
    stored = {}
    for path in sorted((store.root / "searches").glob("*/*.json")):
        settings = _settings(path)
        if settings is None:
            continue
        tuned_design = (settings.study, settings.profile, settings.design)
        if tuned_design == (study.name, profile.name, fingerprint(design)):
            stored[settings.id] = settings
    return stored


def _settings(path: Path) -> Settings | None:
    """Return the settings in a search's file; None where it cannot be read."""
    try:
        identity = json.loads(path.read_bytes())["search"]
        values = {name: identity[name] for name in identity if name not in ("schema", "arm")}
        settings: Settings = build(Settings, values, "")
    except (OSError, ValueError, LookupError, TypeError, UserError):
        return None
    return settings


def _choice(search: Search | None) -> Choice:
    if search is None:
        return Choice({}, 0, 0, None, None)
    standings = search.standings(search.trials())
    if not standings:
        raise UserError(
            f"--tuned: the search {search.settings.id} has nothing of '{search.arm}': "
            "python -m ns_bench.search with --per-arm gives each arm the same chance"
        )
    if any(standing.state == "running" for standing in standings):
        raise UserError(
            f"--tuned: the search {search.settings.id} of '{search.arm}' is not over: call it again"
        )
    best = best_of(standings)
    if best is None:
        raise UserError(f"--tuned: no trial of '{search.arm}' in {search.settings.id} is complete")
    fields = changes(search.space, best.trial.params)
    untuned = standings[0].score if standings[0].state == "complete" else None
    return Choice(fields, best.trial.number, len(standings), best.score, untuned)
