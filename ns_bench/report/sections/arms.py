"""Every arm beside the baseline, its learning curves, and what was published of the same."""

from ns_bench.report import blocks as b
from ns_bench.report import multiples
from ns_bench.report.numbers import MISSING, interval, mean_of, points, share, signed
from ns_bench.verdicts import paper
from ns_bench.verdicts.analysis import Analysis, ArmSummary
from ns_bench.verdicts.references import references


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return the table of arms."""
    return [
        b.Heading("Arms"),
        table(analysis),
        b.Paragraph(
            "Differences to the baseline are paired by seed, each with the t-interval of itself "
            "alone. What the study tests are its claims, above."
        ),
        *(
            b.Paragraph(
                f"One computation under {len(names)} names: {', '.join(names)}. Their runs "
                "are equal in every seed, so they are one piece of evidence."
            )
            for names in _equal(analysis)
        ),
    ]


def _equal(analysis: Analysis) -> list[list[str]]:
    """Return arms whose finished runs have the same accuracy and loss, to the last bit."""
    if "test_loss" not in analysis.runs:
        return []
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, rows in analysis.by_arm(analysis.runs.dropna(subset=["test_top1"])).items():
        values = rows.sort_values("seed")[["seed", "test_top1", "test_loss"]]
        groups.setdefault(tuple(values.to_numpy().ravel()), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def table(analysis: Analysis) -> b.Table:
    """Return the table of arms: top-1, and the difference to the baseline, which has none."""

    def difference(arm: ArmSummary) -> str:
        return "baseline" if arm.is_baseline else signed(mean_of(arm.difference))

    return b.tabulate(
        "Arms",
        analysis.arms,
        ("arm", lambda arm: arm.name),
        ("n", lambda arm: f"{arm.n}/{analysis.planned(arm.name)}"),
        ("top-1 (%)", lambda arm: points(mean_of(arm.interval))),
        ("95 % t-interval", lambda arm: interval(arm.interval)),
        ("vs baseline", difference),
        ("95 % t-interval", lambda arm: interval(arm.difference, sign=True)),
        ("seeds won", lambda arm: share(arm.difference.wins if arm.difference else None)),
        ("d_z", lambda arm: points(arm.difference.effect_size if arm.difference else None)),
        ("training (s)", lambda arm: points(arm.training_seconds)),
    )


def learning(analysis: Analysis) -> list[b.Block]:
    """Return the figure of learning curves; nothing where none were stored."""
    drawn = multiples.blocks(
        analysis, "curves", f"Mean with 95 % t-interval over seeds; dashed: {analysis.baseline}."
    )
    return [b.Heading("Learning curves"), *drawn] if drawn else []


def published(analysis: Analysis) -> list[b.Block]:
    """Return the paper's arms beside ours, then what was published of the profile's data set."""
    sections: list[b.Block] = []
    rows = [row for row in paper.rows(analysis.study.name) if row.metric == "top1"]
    pairs = [(arm, row) for arm in analysis.arms for row in rows if arm.paper == row.arm]
    if pairs:
        title = "The paper beside it"
        sections += [
            b.Heading(title),
            b.tabulate(
                title,
                pairs,
                ("our arm", lambda pair: pair[0].name),
                ("ours (%)", lambda pair: points(mean_of(pair[0].interval))),
                ("the paper's arm", lambda pair: pair[1].arm),
                ("its top-1 (%)", lambda pair: points(pair[1].value)),
                ("version", lambda pair: pair[1].version),
                ("source", lambda pair: pair[1].where),
            ),
            b.Paragraph(
                "The paper reports single runs on ImageNet, without error bars: directions can be "
                "compared, sizes hardly."
            ),
        ]
    profile = analysis.profile.name
    rows = [row for row in paper.rows(profile) if row.metric == "top1"]
    if rows:
        title = f"Reported for {profile}"
        sections += [
            b.Heading(title),
            b.tabulate(
                title,
                rows,
                ("arm", lambda row: row.arm),
                ("top-1 (%)", lambda row: points(row.value)),
                ("source", lambda row: row.where),
                ("note", lambda row: row.note or MISSING),
            ),
        ]
    return sections + _others(analysis)


def _others(analysis: Analysis) -> list[b.Block]:
    """Return what others published of the profile's data set."""
    rows = references(analysis.profile.base("data.name"))
    if not rows:
        return []
    title = "Published by others"
    return [
        b.Heading(title),
        b.tabulate(
            title,
            rows,
            ("method", lambda row: row.method),
            ("labels", lambda row: f"{row.labels:,}"),
            (
                "accuracy (%)",
                lambda row: points(row.accuracy) + (f" ± {row.spread:g}" if row.spread else ""),
            ),
            ("network", lambda row: row.network or MISSING),
            ("what differs", lambda row: row.differs),
            ("source", lambda row: row.source),
        ),
        b.Paragraph(
            "Another network and another split in every row: landmarks on the same data set, not "
            f"what an arm here should equal. Here it is {analysis.profile.base('data.labeled'):,} "
            "labels, and the test rows are read once."
        ),
    ]
