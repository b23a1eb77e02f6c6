"""What a plan costs before any of it runs, as lines for a terminal: FLOPs, hours, storage."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from ns_bench.cli.columns import aligned
from ns_bench.data.catalog import describe
from ns_bench.design.cost import TRAINING, Shape, flops, network, shape_of, sparse_labels, storage
from ns_bench.design.profile import Profile
from ns_bench.recipe import Recipe
from ns_bench.report.numbers import counted, rounded
from ns_bench.runs.plan import Plan, longest_chain
from ns_bench.runs.store import Run


def run_lines(profile: Profile, plan: Plan) -> Iterator[str]:
    """Yield every run with its state, its seconds and its teacher."""
    for run in plan.runs.values():
        teacher = f"  <- {run.teacher.id}" if run.teacher else ""
        seconds = profile.estimate(run.recipe)
        yield f"{plan.states[run.id]:<8} {run.id}  {seconds:.0f} s{teacher}"


def plan_lines(title: str, profile: Profile, plan: Plan, seeds: Iterable[int]) -> Iterator[str]:
    """Yield what is left to do, and what it costs.

    Args:
        seeds: how many each study has.
    """
    train = [run for run in plan.missing if plan.states[run.id] != "unmeasured"]
    images = sum(run.recipe.images for run in train)
    counts = ", ".join(f"{n} {state}" for state, n in sorted(plan.counts().items()))
    listed = sorted(seeds)
    span = " to ".join(str(n) for n in sorted({listed[0], listed[-1]}))
    yield (
        f"\n{title}, {span} seed{'' if span == '1' else 's'}: "
        f"{counted(len(plan.runs), 'training')} planned, "
        f"{plan.asked} without sharing, ratio {len(plan.runs) / plan.asked:.2f}: {counts}"
    )
    yield f"to do: {counted(len(train), 'run')}, {images:,} images"
    yield from price_lines(train, profile)
    measure = Counter(group for run in plan.missing for group in run.unmeasured)
    if measure:
        groups = ", ".join(f"{group} of {counted(n, 'run')}" for group, n in measure.items())
        yield f"to measure: {groups}; the hours above are without it, and it can take more"


def price_lines(runs: Sequence[Run], profile: Profile) -> Iterator[str]:
    """Yield the price of `runs`, teachers before students; nothing of no runs."""
    if not runs:
        return
    yield from _table(runs, profile)
    seconds = sum(profile.estimate(run.recipe) for run in runs)
    gpu = profile.gpu
    source = f", at {gpu.tflops:g} TFLOP/s ({gpu.source})" if gpu else ""
    guessed = sum(not profile.measured(run.recipe) for run in runs)
    doubt = f"; a guess for {guessed} of {counted(len(runs), 'run')}, whose network was not counted"
    yield (
        f"time: about {time_of(seconds)} of {profile.machine or 'one worker'}{source}, shared by "
        f"the workers{doubt if guessed else ''}"
    )
    yield from _disk(runs, profile)
    chain = longest_chain(runs, profile.estimate)
    seconds = sum(profile.estimate(run.recipe) for run in chain)
    yield (
        f"longest chain: {counted(len(chain), 'run')} one after another, {time_of(seconds)}, "
        f"however many workers; it ends in {chain[-1].id}"
    )


def _table(runs: Sequence[Run], profile: Profile) -> Iterator[str]:
    rows = [("model", "pixels", "runs", "images", "forward FLOPs", "total FLOPs", "time")]
    shapes: dict[Shape, list[Recipe]] = {}
    for run in runs:
        shapes.setdefault(shape_of(run.recipe), []).append(run.recipe)
    exact = True
    for shape, recipes in shapes.items():
        net, total = network(shape), sum(flops(recipe) or 0 for recipe in recipes)
        exact = exact and (net is None or net.exact)
        rows.append(
            (
                shape.model,
                f"{shape.side}",
                f"{len(recipes)}",
                f"{sum(recipe.images for recipe in recipes):,}",
                _si(net.forward) + ("" if net.exact else "*") if net else "?",
                _si(total) if net else "?",
                time_of(sum(map(profile.estimate, recipes)))
                if profile.measured(recipes[0])
                else "unknown",
            )
        )
    yield from aligned(rows, numbers=True)
    yield (
        f"total FLOPs: {TRAINING} forward passes an image trained on, one an image labelled or "
        "evaluated" + ("" if exact else "; *: by area from the nearest size that was counted")
    )


def _disk(runs: Sequence[Run], profile: Profile) -> Iterator[str]:
    known = {run.id: stored for run in runs if (stored := storage(run.recipe)) is not None}
    unknown = (len(runs) - len(known)) * profile.run_megabytes * 1e6
    weights = sum(stored.weights for stored in known.values())
    checkpoint = max((stored.checkpoint for stored in known.values()), default=0.0)
    teachers = {run.teacher.id for run in runs if run.teacher is not None and run.recipe.batch[1]}
    labels = sum(
        known[run.id].labels
        for run in runs
        if run.id in known and (run.id in teachers or not sparse_labels(run.recipe.data))
    )
    yield (
        f"disk: {_bytes(weights + labels + unknown)}: weights {_bytes(weights)}, labels of the "
        f"pool {_bytes(labels)}"
        + (f", models not counted {_bytes(unknown)}" if unknown else "")
        + f"; and while they run up to {_bytes(checkpoint)} of checkpoint each"
    )
    data = runs[0].recipe.data
    files = describe(data).file_set
    if files is not None and files.pixels:
        yield f"data: {_bytes(files.decoded_bytes)}, '{data.name}' decoded once"


def time_of(seconds: float) -> str:
    """Return a time as people say it: 40 seconds, 1.6 minutes, 1,234 hours."""
    units = {"hour": 3600.0, "minute": 60.0, "second": 1.0}
    unit = next((name for name, size in units.items() if seconds >= 1.5 * size), "second")
    number = rounded(seconds / units[unit])
    return f"{number} {unit}{'' if number == '1' else 's'}"


def _si(value: float) -> str:
    """Return a number with three digits and a prefix: 771.6 M."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 999.5 or prefix == "E":
            return f"{value:.3g} {prefix}".rstrip()
        value /= 1000
    raise AssertionError


def _bytes(value: float) -> str:
    return f"{_si(value)}B" if value >= 999.5 else f"{value:.0f} B"
