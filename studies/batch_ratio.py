"""Does a larger share of unlabeled images in a batch help? (paper, appendix study #7)"""

from ns_bench.design.definition import Arm, Design, Study, difference, interaction, slope, trend
from ns_bench.design.profile import Profile

RATIOS = (1, 3, 7, 14)


def design(profile: Profile) -> Design:
    """Ratios at equal labeled epochs, for the smallest and the largest student of one teacher."""
    small, large = profile.rungs[0], profile.rungs[-1]
    teacher = profile.supervised(small)
    names = {rung: [f"{rung} {ratio}:1" for ratio in RATIOS] for rung in (small, large)}
    students = [
        Arm(name, profile.student(rung, teacher, train__ratio=ratio))
        for rung in (small, large)
        for name, ratio in zip(names[rung], RATIOS, strict=True)
    ]
    claims = [
        trend(
            f"A larger ratio makes no difference to the {small} student.",
            names[small],
            profile.smallest_effect,
            kind="equivalent",
            paper={"B4 (83.2) 3:1": 1, "B4 (83.2) 1:1": -1},
            note="3:1 against 1:1",
            seen={"digits": 8},
        ),
        trend(
            f"A larger ratio helps the {large} student.",
            names[large],
            profile.smallest_effect,
            paper={"L2 (87.0) 3:1": 1, "L2 (87.0) 1:1": -1},
            note="3:1 against 1:1",
        ),
        interaction(
            "A larger ratio helps the larger student more.",
            slope(names[large]),
            slope(names[small]),
            profile.smallest_effect / (len(RATIOS) - 1),
            unit="points a step",
            paper={
                "L2 (87.0) 3:1": 1,
                "L2 (87.0) 1:1": -1,
                "B4 (83.2) 3:1": -1,
                "B4 (83.2) 1:1": 1,
            },
            note="3:1 against 1:1",
        ),
        difference(
            "Ratio 3:1 beats 1:1 for the large student.",
            names[large][1],
            minus=names[large][0],
            smallest_effect=profile.smallest_effect,
            paper={"L2 (87.0) 3:1": 1, "L2 (87.0) 1:1": -1},
        ),
    ]
    return Design(students, names[small][0], claims)


STUDY = Study(
    name="batch_ratio",
    question="Does a larger share of unlabeled images in each batch help, and whom?",
    factor="student and unlabeled:labeled ratio",
    design=design,
    source="Appendix study #7",
)
