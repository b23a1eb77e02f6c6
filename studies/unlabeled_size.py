"""How many unlabeled images does it take? (paper, appendix study #2)"""

from ns_bench.design.definition import Arm, Claim, Design, Study, difference, minus, trend
from ns_bench.design.profile import Profile

PARTS = (128, 64, 32, 16, 8, 4, 2, 1)


def design(profile: Profile) -> Design:
    """Random parts of the pool, each inside the next, at equal steps and batches."""
    small = profile.rungs[0]
    teacher = profile.supervised(small)
    supervised = Arm("supervised", teacher)
    arms = {
        part: Arm(
            "all" if part == 1 else f"1/{part}",
            profile.student(
                small, teacher, pseudo__limit=0 if part == 1 else max(profile.pool // part, 1)
            ),
        )
        for part in PARTS
    }
    everything, least = arms[1].name, arms[PARTS[0]].name
    claims = [
        trend(
            "More unlabeled images give a better student.",
            [arm.name for arm in arms.values()],
            profile.smallest_effect,
            paper={"B4 student of B4 all": 1, "B4 student of B4 1/128": -1},
            note="from 1/128 to all, not a step",
        ),
        Claim(
            "Half and a quarter of the pool do as well as all of it.",
            (minus(arms[2].name, everything), minus(arms[4].name, everything)),
            profile.smallest_effect,
            kind="not worse",
            paper={"B4 student of B4 1/4": 1, "B4 student of B4 all": -1},
            note="the paper: as well down to 1/16 of 130M",
        ),
        difference(
            "With far fewer the gain drops: 1/128 is worse than all.",
            everything,
            minus=least,
            smallest_effect=profile.smallest_effect,
            paper={"B4 student of B4 all": 1, "B4 student of B4 1/128": -1},
        ),
    ]
    return Design([supervised, *arms.values()], supervised.name, claims)


STUDY = Study(
    name="unlabeled_size",
    question="How many unlabeled images does it take?",
    factor="part of the unlabeled pool",
    design=design,
    source="Appendix study #2",
)
