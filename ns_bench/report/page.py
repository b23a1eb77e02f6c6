"""The report of one study: what its page says, and the files that are written of it."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ns_bench.files import publish
from ns_bench.report import figure, html, latex, robustness, tuned
from ns_bench.report import markdown as md
from ns_bench.report.blocks import (
    Block,
    Code,
    Details,
    Heading,
    Items,
    Notes,
    Page,
    Panel,
    Paragraph,
    Picture,
    Span,
    Table,
    Text,
    VerdictBox,
    Verdicts,
)
from ns_bench.report.numbers import MISSING, interval, mean_of, p_value, points, share, signed
from ns_bench.verdicts import paper
from ns_bench.verdicts.analysis import Analysis, ClaimResult


def write(analysis: Analysis, folder: Path, *, refresh: int = 0) -> Path:
    """Write the page, its tables and figures in every format into `folder`; returns report.md.

    Built from stored results alone: the same results give the same bytes. With `refresh` the HTML
    page loads itself again every so many seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure.save(analysis, folder)
    for name, frame in (("runs", analysis.runs), ("curves", analysis.curves)):
        publish(folder / f"{name}.csv", frame.to_csv(index=False).encode())
    said = content(analysis)
    publish(folder / "tables.tex", latex.tables(analysis.title, tables(analysis)).encode())
    publish(
        folder / "report.html",
        html.render(said, figure.inline(analysis, said), refresh=refresh).encode(),
    )
    path = folder / "report.md"
    publish(path, md.render(said).encode())
    return path


def markdown(analysis: Analysis) -> str:
    """Return the page as Markdown."""
    return md.render(content(analysis))


def content(analysis: Analysis) -> Page:
    """Return the page: every number on it is from the analysis."""
    study = analysis.study
    blocks: list[Block] = [
        Paragraph([Span(study.question, bold=True), f" (paper: {study.source})"]),
        *_banner(analysis),
        Heading("Verdicts"),
        *_verdict_boxes(analysis),
        Picture(
            study.name,
            f"{study.name}: test top-1 of every seed by arm, and the effect of each claim",
            [
                Panel(
                    "arms",
                    "Test top-1 of every seed by arm, with each arm's mean and 95 % t-interval; "
                    "the table of arms has the numbers",
                ),
                *_panel(
                    analysis.claims,
                    "claims",
                    "The effect of each claim with its 95 % interval, beside the paper's; the "
                    "table of verdicts has the numbers",
                ),
            ],
        ),
        _verdicts(analysis),
        *_protocol(analysis),
        *tuned.blocks(analysis),
        Heading("Arms"),
        _arms(analysis),
        Paragraph(
            "Differences to the baseline are paired by seed. Their Holm p is corrected over the "
            "arms of this table; the claims are judged in the table above."
        ),
        *robustness.blocks(analysis),
        *_learning(analysis),
        *_paper(analysis),
        *_reported(analysis),
        *_pseudo(analysis),
        Heading("Cost"),
        *_cost(analysis),
        Heading("What varies, what is held"),
        Paragraph(_held(analysis)),
        Heading("Runs"),
        *_runs(analysis),
        Heading("Reproduce it"),
        *_commands(analysis),
        Paragraph(f"Profile: {analysis.profile.title}."),
    ]
    return Page(analysis.title, blocks)


def tables(analysis: Analysis) -> list[Table]:
    """Return the tables that go into a paper, without the columns that a page has no room for."""
    found = [_verdicts(analysis).without("seeds won")] if analysis.claims else []
    arms = _arms(analysis).without("seeds won", "d_z", "training (s)")
    return [*found, arms, *robustness.tables(analysis)]


def _panel(there: Iterable[object], name: str, alt: str) -> list[Panel]:
    return [Panel(name, alt)] if list(there) else []


def _banner(analysis: Analysis) -> list[Block]:
    notes: list[Text] = []
    usual = analysis.profile.seeds
    if not analysis.profile.verdict:
        smoke = Span("Smoke run.", bold=True)
        notes.append([smoke, " The budget is too small to judge anything: no verdict."])
    if analysis.unfinished:
        states = pd.Series([run.state for run in analysis.unfinished]).value_counts().sort_index()
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        arms = analysis.runs[analysis.runs["arm"] != ""].drop_duplicates("run")
        done = int((arms["state"] == "done").sum())
        notes.append(
            [
                Span(f"Incomplete: {counts}.", bold=True),
                f" {done} of the arms' {len(arms)} runs are done; what is shown is interim, and "
                "there is no verdict on a claim before all its seeds are in. See the runs below.",
            ]
        )
    if analysis.foreign:
        foreign = Span(f"{analysis.foreign} runs have another recipe", bold=True)
        notes.append([foreign, " than this study gives them in this profile now."])
    if analysis.seeds != usual:
        notes.append(f"{analysis.seeds} seeds, where the profile has {usual}.")
    if analysis.changed:
        changed = ", ".join(f"{field}={value}" for field, value in analysis.changed.items())
        notes.append(["Fields set by hand: ", Span(changed, code=True), "."])
    return [Notes(notes)] if notes else []


def _verdict_boxes(analysis: Analysis) -> list[Block]:
    """Return each claim with its verdict and the reason; a trial run has none."""
    if not analysis.profile.verdict or not analysis.claims:
        return []
    return [
        Verdicts(
            [
                VerdictBox(
                    result.verdict.word,
                    result.claim.text,
                    f"{result.verdict.reason}.{_more_seeds(analysis, result)}",
                )
                for result in analysis.claims
            ]
        )
    ]


def _verdicts(analysis: Analysis) -> Table:
    rows: list[list[Text]] = []
    for result in analysis.claims:
        c = result.contrast
        where = f"; weakest contrast: {result.label}" if result.label else ""
        rows.append(
            [
                result.claim.text,
                Span(analysis.word(result), bold=True),
                MISSING
                if c is None
                else f"{signed(c.mean)} {interval(c, sign=True)} {result.claim.unit}{where}",
                seeds_of(analysis, result),
                p_value(result.p),
                p_value(result.p_holm),
                share(c.wins if c else None),
                papers(result),
            ]
        )
    header = ["claim", "verdict", "effect, 95 % interval", "n", "p", "Holm p", "seeds won"]
    return Table("Verdicts", [*header, "the paper"], rows)


def _protocol(analysis: Analysis) -> list[Block]:
    smallest = dict.fromkeys(
        f"{r.claim.smallest_effect:.3g} {r.claim.unit}"
        for r in analysis.claims
        if r.claim.contrasts
    )
    return [
        Paragraph(
            [
                "Effects are means of paired differences (or slopes) by seed with 95 % "
                "t-intervals; p is an exact sign-flip test of what the claim has to beat: no "
                "difference, or for ",
                Span("not worse", code=True),
                " and ",
                Span("equivalent", code=True),
                " claims one that matters; Holm over this study's claims. A claim about several "
                "contrasts holds if each does: the weakest is shown. ",
                Span("equivalent", code=True),
                " means that the whole interval is smaller than the smallest effect of interest, "
                "stated before any run" + (f": {'; '.join(smallest)}." if smallest else "."),
            ]
        )
    ]


def seeds_of(analysis: Analysis, result: ClaimResult) -> str:
    """Return how many seeds a claim has, of how many, or a dash where it has no data at all."""
    return MISSING if result.claim.untestable else f"{result.n}/{analysis.seeds}"


def papers(result: ClaimResult) -> str:
    """Return the paper's effect and what has to be known of it, or a dash."""
    return "; ".join(filter(None, [str(result.paper or ""), result.claim.note])) or MISSING


def _more_seeds(analysis: Analysis, result: ClaimResult) -> str:
    if result.verdict.word != "inconclusive" or not 0 < result.n == analysis.seeds:
        return ""
    if result.seeds is None:
        return " Seeds for a verdict: not to be had with fewer than 1,000."
    more = result.seeds - result.n
    return f" At this mean and spread a verdict needs about {more} more seeds." if more > 0 else ""


def _arms(analysis: Analysis) -> Table:
    rows: list[list[Text]] = []
    for arm in analysis.arms:
        d = arm.difference
        rows.append(
            [
                arm.name,
                f"{arm.n}/{analysis.seeds}",
                points(mean_of(arm.interval)),
                interval(arm.interval),
                "baseline" if arm.is_baseline else signed(mean_of(d)),
                MISSING if arm.is_baseline else interval(d, sign=True),
                p_value(d.p if d else None),
                p_value(arm.p_holm),
                MISSING if arm.is_baseline else share(d.wins if d else None),
                MISSING if arm.is_baseline else points(d.effect_size if d else None),
                points(arm.training_seconds),
            ]
        )
    header = [
        "arm",
        "n",
        "top-1 (%)",
        "95 % interval",
        "vs baseline",
        "95 % interval",
        "p",
        "Holm p",
        "seeds won",
        "d_z",
        "training (s)",
    ]
    return Table("Arms", header, rows)


def _learning(analysis: Analysis) -> list[Block]:
    if not figure.has_curves(analysis):
        return []
    name = figure.curves_stem(analysis)
    alt = "Validation top-1 by step of training, mean and 95 % t-interval over seeds, by arm"
    return [Heading("Learning curves"), Picture(name, alt, [Panel("curves", alt)])]


def _paper(analysis: Analysis) -> list[Block]:
    published = paper.rows(analysis.study.name)
    rows: list[list[Text]] = []
    for arm in analysis.arms:
        for row in published:
            if arm.paper and row.arm == arm.paper and row.metric == "top1":
                rows.append(
                    [
                        arm.name,
                        points(mean_of(arm.interval)),
                        row.arm,
                        points(row.value),
                        row.version,
                        row.source + ("" if row.verified else " (unverified)"),
                    ]
                )
    if not rows:
        return []
    header = ["our arm", "ours (%)", "the paper's arm", "its top-1 (%)", "version", "source"]
    return [
        Heading("The paper beside it"),
        Table("The paper beside it", header, rows),
        Paragraph(
            "The paper reports single runs on ImageNet, without error bars: directions can be "
            "compared, sizes hardly."
        ),
    ]


def _reported(analysis: Analysis) -> list[Block]:
    """Return what was published of the profile's data set with its recipe, whatever the study."""
    published = [row for row in paper.rows(analysis.profile.name) if row.metric == "top1"]
    if not published:
        return []
    rows: list[list[Text]] = [
        [
            row.arm,
            points(row.value),
            row.source + ("" if row.verified else " (unverified)"),
            row.note or MISSING,
        ]
        for row in published
    ]
    title = f"Reported for {analysis.profile.name}"
    return [Heading(title), Table(title, ["arm", "top-1 (%)", "source", "note"], rows)]


def _pseudo(analysis: Analysis) -> list[Block]:
    runs = analysis.runs
    if "pseudo_accuracy_used" not in runs:
        return []
    rows: list[list[Text]] = []
    for arm in analysis.arms:
        mine = runs[(runs["arm"] == arm.name) & runs["pseudo_accuracy_used"].notna()]
        if len(mine):
            mean = mine.reindex(
                columns=[
                    "teacher_test_top1",
                    "pseudo_coverage",
                    "pseudo_accuracy_pool",
                    "pseudo_accuracy_used",
                    "pseudo_confidence",
                ]
            ).mean()
            rows.append(
                [
                    arm.name,
                    points(mean.iloc[0]),
                    *map(share, mean.iloc[1:]),
                    _balance(mine, "pseudo_per_class_pool"),
                    _balance(mine, "pseudo_per_class_used"),
                ]
            )
    header = [
        "arm",
        "teacher's top-1 (%)",
        "pool used",
        "right in the pool",
        "right where used",
        "mean confidence",
        "classes in the pool",
        "classes where used",
    ]
    if not rows:
        return []
    if all(row[-1] == MISSING for row in rows):  # results from before it was stored
        header, rows = header[:-2], [row[:-2] for row in rows]
        balance = ""
    else:
        balance = (
            "Classes: shares of the rarest and of the most frequent predicted class, before and "
            "after selection and balancing. "
        )
    title = "Pseudo-labels (diagnostic, against the hidden truth)"
    return [
        Heading(title),
        Table(title, header, rows),
        Paragraph(f"Means over seeds. {balance}"),
        *_calibration(analysis),
    ]


def _calibration(analysis: Analysis) -> list[Block]:
    """Return how often the teacher is right, by its confidence; arms of one teacher in one row."""
    columns = ["pseudo_per_tenth", "pseudo_per_tenth_right"]
    if not set(columns) <= set(analysis.runs):  # results from before it was stored
        return []
    arms: dict[tuple[str, ...], list[str]] = {}
    for arm in analysis.arms:
        mine = analysis.runs[analysis.runs["arm"] == arm.name]
        counts = [
            [[int(n) for n in text.split()] for text in mine[name] if text] for name in columns
        ]
        if counts[0]:
            images, right = ([sum(tenth) for tenth in zip(*c, strict=True)] for c in counts)
            cells = tuple(
                f"{share(k / n)} of {n:,}" if n else MISSING
                for n, k in zip(images, right, strict=True)
            )
            arms.setdefault(cells, []).append(arm.name)
    if not arms:
        return []
    title = "Teacher's labels that are right, by its confidence"
    header = ["arms", *(f"{i / 10:.1f} to {(i + 1) / 10:.1f}" for i in range(10))]
    rows: list[list[Text]] = [[", ".join(names), *cells] for cells, names in arms.items()]
    note = (
        f"{title}: over the pools of all seeds, before selection. A calibrated teacher is right as "
        "often as it is sure."
    )
    return [Paragraph(note), Table(title, header, rows)]


def _balance(runs: pd.DataFrame, column: str) -> str:
    """Return the mean shares of a run's rarest and most frequent class, e.g. `6 to 14 %`."""
    if column not in runs:
        return MISSING
    lows, highs = [], []
    for text in runs[column]:
        counts = [int(count) for count in str(text).split()]
        if total := sum(counts):
            lows.append(min(counts) / total)
            highs.append(max(counts) / total)
    if not lows:
        return MISSING
    return f"{100 * sum(lows) / len(lows):.0f} to {share(sum(highs) / len(highs))}"


def _cost(analysis: Analysis) -> list[Block]:
    runs = analysis.runs
    if "seconds" not in runs:
        return [Paragraph("The stored results do not say what they cost.")]
    done = runs.dropna(subset=["test_top1"]).drop_duplicates("run")
    rows: list[list[Text]] = []
    for arm in analysis.arms:
        mine = done[done["arm"] == arm.name]
        rows.append([arm.name, *_sums(mine)])
    rows.append([Span("all arms", bold=True), *_sums(done)])
    return [
        *_budget(analysis),
        Table("Cost", ["arm", "runs", "images", "seconds", "hours"], rows),
        Paragraph(
            "Sums over the runs that are done, each run once. Hours are of GPUs where a run had "
            "one, else of processor cores: seconds times threads. Teachers that are no arm "
            "themselves are not in it. Energy is not measured."
        ),
    ]


def _budget(analysis: Analysis) -> list[Block]:
    """Return what one training of each arm takes, alone and with its teachers."""
    runs = analysis.runs
    if not {"chain_steps", "steps"} <= set(runs):  # results from before it was counted
        return []
    done = runs.dropna(subset=["test_top1"])
    rows: list[list[Text]] = []
    for arm in analysis.arms:
        mine = done[done["arm"] == arm.name]
        if len(mine):
            mean = mine[["steps", "images", "chain_steps", "chain_images"]].mean()
            counts = [f"{value:,.0f}" for value in mean]
            rows.append([arm.name, *counts, points(mine["chain_seconds"].mean())])
    header = ["arm", "steps", "images", "steps in all", "images in all", "seconds in all"]
    return [
        Table("Budget", header, rows),
        Paragraph(
            "Gradient steps and images of one training, then with its teachers, theirs and so on "
            "(in all); means over seeds. Labelling images and evaluation are in the seconds alone."
        ),
    ]


def _sums(runs: pd.DataFrame) -> list[Text]:
    images = runs["images"].sum() if "images" in runs else 0
    seconds = runs["seconds"].fillna(0)
    gpu = runs["device"].astype(str).str.startswith("cuda") if "device" in runs else seconds < 0
    threads = runs["threads"].fillna(1) if "threads" in runs else 1
    hours = [
        (float(seconds[gpu].sum()) / 3600, "GPU-hours"),
        (float((seconds * threads)[~gpu].sum()) / 3600, "core-hours"),
    ]
    said = ", ".join(f"{points(value)} {unit}" for value, unit in hours if value)
    return [str(len(runs)), f"{int(images):,}", f"{seconds.sum():,.0f}", said or MISSING]


def _held(analysis: Analysis) -> str:
    spec = analysis.profile.fields
    return (
        f"A seed is end to end: it sets the split, the teacher's and the student's initial "
        f"weights, the order of rows and every draw of noise; arms of one seed share all of "
        f"these and are compared in pairs. Held: {spec['data.labeled']} labels, "
        f"{spec['data.validation']} validation and {spec['data.test']} test rows, and the recipe. "
        "The test rows are read once, by the averaged weights after the last step."
        f"{_files(analysis.runs)}"
    )


def _files(runs: pd.DataFrame) -> str:
    """Return what is to be known of a data set in files: what was left out, and which one it is."""
    if "data_fingerprint" not in runs:
        return ""
    done = runs[runs["data_fingerprint"] != ""]

    def most(column: str) -> str:
        low, high = (int(done[column].agg(f)) for f in ("min", "max"))
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    return (
        f" Left out of the pool, since they are also test or validation images (equal pixels): "
        f"{most('data_duplicates_left_out')} images a seed. Unreadable images of the whole set: "
        f"{most('data_unreadable')}. Fingerprint of the data: "
        f"{', '.join(sorted(set(done['data_fingerprint'])))}."
    )


def _runs(analysis: Analysis) -> list[Block]:
    blocks: list[Block] = []
    if analysis.unfinished:
        blocks.append(Paragraph("Not done:"))
        blocks.append(
            Items(
                [
                    [Span(r.state, bold=True), " ", Span(r.id, code=True), f" {r.reason}"]
                    for r in analysis.unfinished
                ]
            )
        )
    rows: list[list[Text]] = [
        [
            row["arm"],
            str(row["seed"]),
            row["state"],
            points(row["test_top1"]),
            Span(row["run"], code=True),
        ]
        for row in analysis.runs.to_dict("records")
        if row["arm"]
    ]
    every = Table("Every run", ["arm", "seed", "state", "top-1 (%)", "run"], rows)
    blocks.append(Details("every run", [every]))
    if "git" in analysis.runs:
        blocks.append(Details("provenance", [Paragraph(_provenance(analysis.runs))]))
    return blocks


def _commands(analysis: Analysis) -> list[Block]:
    study, profile = analysis.study.name, analysis.profile.file or analysis.profile.name
    changed = "".join(f" --set {field}={value}" for field, value in analysis.changed.items())
    more = [group for group in analysis.metrics if group not in analysis.study.metrics]
    changed += f" --metrics {','.join(more)}" if more else ""
    again: list[Block] = [
        Paragraph("This report again, from its own tables, in the folder above its own:"),
        Code(f"python -m ns_bench.report {study} --profile {profile} --from ."),
    ]
    if analysis.tuning:
        changed, again = f"{changed} --tuned {analysis.tuning.tuned.search}", []
    files = [
        "runs.csv",
        "curves.csv",
        "tables.tex",
        *(f"{stem}.{suffix}" for stem in figure.stems(analysis) for suffix in figure.FORMATS),
    ]
    links: list[str | Span] = []
    for file in files:
        links += [", ", Span(file, file=file)]
    return [
        Paragraph("Train what is missing, and write this report:"),
        Code(
            f"python -m ns_bench.study {study} --profile {profile} --seeds {analysis.seeds}"
            f"{changed}"
        ),
        *again,
        Paragraph(["Beside this page: ", *links[1:], "."]),
    ]


def _provenance(runs: pd.DataFrame) -> str:
    done = runs.dropna(subset=["test_top1"])

    def values(column: str) -> str:
        return ", ".join(sorted({str(v) for v in done.get(column, ())} - {""})) or MISSING

    dirty = " (with uncommitted changes)" if "True" in values("dirty") else ""
    parts = done["parts"].dropna() if "parts" in done else pd.Series()
    how = ""
    if len(parts):
        most = f"{parts.min():.0f}" + (f" to {parts.max():.0f}" if parts.nunique() > 1 else "")
        how += (
            f" {len(parts)} of {len(done)} runs worked through their batches in {most} parts "
            "(gradient accumulation): batch statistics are those of a part."
        )
    if "compiled" in done:
        how += f" {done['compiled'].notna().sum()} of {len(done)} runs used torch.compile."
    return (
        f"Made with torch {values('torch')}, timm {values('timm')} on {values('device')} "
        f"(host {values('host')}), commit {values('git')}{dirty}.{how}"
    )
