"""What tuning did: a study with each arm's best recipe, beside the study as it is."""

from collections.abc import Mapping
from typing import Any

from ns_bench.report import blocks as b
from ns_bench.report.numbers import MISSING, effect, mean_of, points, signed
from ns_bench.verdicts.analysis import Analysis, Tuning
from ns_bench.verdicts.statistics import paired_contrast


def blocks(analysis: Analysis) -> list[b.Block]:
    """Return the section on tuning; none where the study is as it is."""
    if analysis.tuning is None:
        return []
    return [
        b.Heading("What tuning did"),
        b.Paragraph(_summary(analysis, analysis.tuning)),
        _claims(analysis, analysis.tuning.before),
        _arms(analysis, analysis.tuning),
    ]


def _summary(analysis: Analysis, tuning: Tuning) -> b.Text:
    trials = max(choice.trials for choice in tuning.tuned.choices.values())
    changed = [
        now.claim.text
        for then, now in zip(tuning.before.claims, analysis.claims, strict=True)
        if tuning.before.word(then) != analysis.word(now)
    ]
    if not analysis.profile.verdict:
        what = "A trial run has no verdicts that it could have changed."
    elif changed:
        what = f"It changed {len(changed)} of {len(analysis.claims)} verdicts: {' '.join(changed)}"
    else:
        what = f"It changed none of the {len(analysis.claims)} verdicts."
    return [
        f"Every arm has the best recipe of {trials} trials in its search, ",
        b.Span(tuning.tuned.search, code=True),
        ". All searches have the same space, sampler and number of trials; their scores are of "
        "validation rows of tuning seeds. This report has other seeds, the same in both columns. ",
        b.Span(what, bold=True),
    ]


def _claims(analysis: Analysis, before: Analysis) -> b.Table:
    return b.tabulate(
        "Verdicts",
        zip(before.claims, analysis.claims, strict=True),
        ("claim", lambda pair: pair[1].claim.text),
        ("as it is", lambda pair: before.word(pair[0])),
        ("effect", lambda pair: effect(pair[0].contrast)),
        ("tuned", lambda pair: b.Span(analysis.word(pair[1]), bold=True)),
        ("effect, tuned", lambda pair: effect(pair[1].contrast)),
    )


def _arms(analysis: Analysis, tuning: Tuning) -> b.Table:
    rows: list[list[b.Text]] = []
    gains = analysis.top1 - tuning.before.top1
    for then, now in zip(tuning.before.arms, analysis.arms, strict=True):
        values = gains[now.name].dropna().to_numpy()
        choice = tuning.tuned.choices[now.name]
        score, own = choice.score, choice.untuned
        rows.append(
            [
                now.name,
                points(mean_of(then.interval)),
                points(mean_of(now.interval)),
                effect(paired_contrast(values) if len(values) else None),
                signed(None if score is None or own is None else score - own),
                f"{choice.trial} of {choice.trials}" if choice.trials else MISSING,
                b.Span(_fields(choice.fields), code=True) if choice.fields else MISSING,
            ]
        )
    header = ["arm", "as it is (%)", "tuned (%)", "gain on fresh seeds", "gain in the search"]
    return b.Table("Arms", [*header, "trial", "recipe"], rows)


def _fields(fields: Mapping[str, Any]) -> str:
    """Return fields in short: what labeled and unlabeled rows have alike is written once."""
    short: dict[str, str] = {}
    for name, value in fields.items():
        both = name.replace(".labeled.", ".*.").replace(".unlabeled.", ".*.")
        short[both] = f"{value:.3g}" if isinstance(value, float) else str(value)
    return " ".join(f"{name}={value}" for name, value in short.items())
