"""Reports of made-up results, for the tests that look at HTML pages."""

from pathlib import Path

from fakes import fake_runs

from ns_bench.design import definition
from ns_bench.design.definition import Arm, Design, Study, difference, untestable
from ns_bench.design.profile import load_profile
from ns_bench.runs.plan import make_plan
from ns_bench.runs.store import Store
from ns_bench.verdicts.analysis import Analysis, analyse
from ns_bench.verdicts.table import collect

SPREAD = [0.0, 0.4, -0.6, 1.2, -1.0, 0.2, 0.8, -0.4]
SCRIPT = "<script>alert(1)</script>"


def hostile() -> Study:
    """A study of which every name is markup."""
    names = [f'{SCRIPT} "0"', "</svg><img src=x onerror=alert(2)> & | $x$ [a](b)"]

    def design(profile):
        arms = [
            Arm(n, profile.supervised("small", train__epochs=i + 1)) for i, n in enumerate(names)
        ]
        claims = [
            difference(f"Is {SCRIPT} <b>better</b>?", names[1], names[0], 1.0, note=SCRIPT),
            untestable("Never.", f"there is no {SCRIPT}"),
        ]
        return Design(arms, names[0], claims)

    return Study("hostile", f"{SCRIPT}&amp;", SCRIPT, design, SCRIPT)


def analysis(store: Store, study: Study | str, profile: str = "digits", seeds: int = 8) -> Analysis:
    """Analyse what `store` has of a study."""
    study = definition.load_study(study) if isinstance(study, str) else study
    chosen = load_profile(profile)
    design = study.design(chosen)
    plan = make_plan(store, design.recipes(range(seeds)).values())
    return analyse(study, chosen, design, *collect(design, plan, seeds), seeds)


def filled(
    folder: Path,
    *studies: Study | str,
    profile: str = "digits",
    seeds: int = 8,
    changed: dict[str, str] | None = None,
) -> Store:
    """A store with every run of the studies; students are better than who learned from labels."""
    store = Store(folder)
    for study in studies:
        study = definition.load_study(study) if isinstance(study, str) else study
        design = study.design(load_profile(profile, changed))
        fake_runs(store, design.recipes(range(seeds)).values(), _top1)
    return store


def _top1(recipe) -> float:
    size = {"micro-b0": 0.0, "micro-b2": 1.0, "micro-b4": 2.0}
    own, offset = size.get(recipe.model, 0.0), SPREAD[recipe.seed % 8]
    if recipe.teacher is None:
        return 88 + own + offset + recipe.train.epochs % 7 * 0.3 * offset
    return 91 + own + size.get(recipe.teacher.model, 0.0) + 0.7 * offset
