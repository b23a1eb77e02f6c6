"""Are soft pseudo-labels better than hard ones, and where? (paper, appendix study #3)"""

from ns_bench.design.definition import (
    Arm,
    Claim,
    Design,
    Study,
    combine,
    difference,
    minus,
    slope,
    untestable,
)
from ns_bench.design.profile import Profile

KINDS = ("soft", "hard")
BINS = (0.3, 0.5, 0.7, 0.9)
"""Lower edges of the teacher's confidence, every other bin of the paper's; with ten classes hardly
an image is below 0.2."""

OUT_OF_DOMAIN = 0.5


def design(profile: Profile) -> Design:
    """Both kinds on the pool as it is; and, in a pool half out of domain, bin by bin.

    Every bin gives the student the same number of images.
    """
    small = profile.rungs[0]
    teacher = profile.supervised(small)
    supervised = Arm("supervised", teacher)
    whole = {
        kind: Arm(f"{kind}, whole pool", profile.student(small, teacher, pseudo__kind=kind))
        for kind in KINDS
    }
    effect = profile.smallest_effect
    in_domain = "Soft labels beat labels alone in the pool as it is."
    beats = "Soft labels beat labels alone at every confidence, in a pool half out of domain."
    every_bin = "Soft labels are at least as good as hard ones at every confidence."
    unsure_hurts = "Hard labels of images that the teacher is unsure of (0.3 to 0.4) hurt."
    more = "The lower the teacher's confidence, the more soft labels gain over hard ones."
    claims = [
        difference(
            in_domain,
            whole["soft"].name,
            supervised.name,
            effect,
            paper={"B0 soft p=0.9": 1, "B0 supervised": -1},
            note="in the surest bin, whose images are most like the labeled ones",
            seen={"digits": 8, "glyphs": 8},
        )
    ]
    mixed = profile.mixed_pool(OUT_OF_DOMAIN)
    if not mixed:
        why = "the data set has no images out of domain, and too few that the teacher is unsure of"
        claims += [untestable(text, why) for text in (beats, every_bin, unsure_hurts, more)]
        return Design([supervised, *whole.values()], supervised.name, claims)

    stranger = Arm("supervised, mixed pool", profile.supervised(small, **mixed))
    arms = {
        (kind, low): Arm(
            f"{kind} {low:g} to {low + 0.1:.1f}",
            profile.student(
                small,
                stranger.recipe,
                **mixed,
                pseudo__kind=kind,
                pseudo__threshold=low,
                pseudo__ceiling=round(low + 0.1, 1),
                pseudo__limit=profile.pool // 40,
            ),
        )
        for kind in KINDS
        for low in BINS
    }
    by_kind = {kind: [arms[kind, low].name for low in BINS] for kind in KINDS}
    claims += [
        Claim(
            beats,
            tuple(minus(name, stranger.name) for name in by_kind["soft"]),
            effect,
            paper={"B0 soft p=0.3": 1, "B0 supervised": -1},
            note="in the least sure of these bins; up to +0.75 in the surest",
            seen={"glyphs": 8},
        ),
        Claim(
            every_bin,
            tuple(minus(*pair) for pair in zip(by_kind["soft"], by_kind["hard"], strict=True)),
            effect,
            kind="not worse",
            paper={"B0 soft p=0.9": 1, "B0 hard p=0.9": -1},
            note="in the surest bin, where they are closest",
        ),
        difference(
            unsure_hurts,
            stranger.name,
            arms["hard", BINS[0]].name,
            effect,
            paper={"B0 supervised": 1, "B0 hard p=0.3": -1},
        ),
        Claim(
            more,
            (combine((1, slope(by_kind["hard"])), (-1, slope(by_kind["soft"]))),),
            effect / (len(BINS) - 1),
            unit="points a bin",
            paper={
                "B0 hard p=0.9": 1,
                "B0 soft p=0.9": -1,
                "B0 hard p=0.3": -1,
                "B0 soft p=0.3": 1,
            },
            note="from the bin at 0.3 to the bin at 0.9, not a bin",
        ),
    ]
    every_arm = [supervised, *whole.values(), stranger, *arms.values()]
    return Design(every_arm, supervised.name, claims)


STUDY = Study(
    name="soft_vs_hard",
    question="Are soft pseudo-labels better than hard ones, and where?",
    factor="kind of label and the teacher's confidence",
    design=design,
    source="Appendix study #3",
)
