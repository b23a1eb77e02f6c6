"""What tuning did: a study with each arm's best recipe, beside the study as it is."""

from collections.abc import Mapping
from typing import Any

from ns_bench.report.blocks import Block, Heading, Paragraph, Span, Table, Text
from ns_bench.report.numbers import MISSING, interval, mean_of, points, signed
from ns_bench.verdicts.analysis import Analysis, ClaimResult
from ns_bench.verdicts.statistics import Interval, paired_contrast


def blocks(analysis: Analysis) -> list[Block]:
    """Return the section on tuning; none where the study is as it is."""
    if analysis.tuning is None:
        return []
    return [
        Heading("What tuning did"),
        Paragraph(_said(analysis)),
        _claims(analysis),
        _arms(analysis),
    ]


def _said(analysis: Analysis) -> Text:
    assert analysis.tuning is not None
    tuned, before = analysis.tuning.tuned, analysis.tuning.before
    trials = max(choice.trials for choice in tuned.choices.values())
    changed = [
        now.claim.text
        for then, now in zip(before.claims, analysis.claims, strict=True)
        if before.word(then) != analysis.word(now)
    ]
    if not analysis.profile.verdict:
        what = "A trial run has no verdicts that it could have changed."
    elif changed:
        what = f"It changed {len(changed)} of {len(analysis.claims)} verdicts: {' '.join(changed)}"
    else:
        what = f"It changed none of the {len(analysis.claims)} verdicts."
    return [
        f"Every arm has the best of {trials} trials of its own search, ",
        Span(tuned.search, code=True),
        ", each with the same space, sampler and number of trials, scored on validation rows of "
        "tuning seeds. The seeds of this report are others, the same for both columns. ",
        Span(what, bold=True),
    ]


def _claims(analysis: Analysis) -> Table:
    assert analysis.tuning is not None
    before = analysis.tuning.before
    rows: list[list[Text]] = [
        [
            now.claim.text,
            before.word(then),
            _effect(then),
            Span(analysis.word(now), bold=True),
            _effect(now),
        ]
        for then, now in zip(before.claims, analysis.claims, strict=True)
    ]
    return Table("Verdicts", ["claim", "as it is", "effect", "tuned", "effect, tuned"], rows)


def _effect(result: ClaimResult) -> str:
    c = result.contrast
    return MISSING if c is None else f"{signed(c.mean)} {interval(c, sign=True)}"


def _arms(analysis: Analysis) -> Table:
    assert analysis.tuning is not None
    before, choices = analysis.tuning.before, analysis.tuning.tuned.choices
    old, new = before.top1, analysis.top1
    rows: list[list[Text]] = []
    for then, now in zip(before.arms, analysis.arms, strict=True):
        pairs = (new[now.name] - old[now.name]).dropna()
        gain: Interval | None = paired_contrast(pairs.to_numpy()) if len(pairs) else None
        choice = choices[now.name]
        trial = f"{choice.trial} of {choice.trials}" if choice.trials else MISSING
        seen = None if choice.own is None or choice.score is None else choice.score - choice.own
        rows.append(
            [
                now.name,
                points(mean_of(then.interval)),
                points(mean_of(now.interval)),
                f"{signed(mean_of(gain))} {interval(gain, sign=True)}",
                signed(seen),
                trial,
                Span(_fields(choice.fields), code=True) if choice.fields else MISSING,
            ]
        )
    header = ["arm", "as it is (%)", "tuned (%)", "gain on fresh seeds", "gain in the search"]
    return Table("Arms", [*header, "trial", "recipe"], rows)


def _fields(fields: Mapping[str, Any]) -> str:
    """Return fields in short: what labeled and unlabeled rows have alike is said once."""
    said: dict[str, str] = {}
    for name, value in fields.items():
        both = name.replace(".labeled.", ".*.").replace(".unlabeled.", ".*.")
        said[both] = f"{value:.3g}" if isinstance(value, float) else str(value)
    return " ".join(f"{name}={value}" for name, value in said.items())
