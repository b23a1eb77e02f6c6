"""Does balancing the pseudo-labeled classes help, and whom? (paper, appendix study #5)"""

from ns_bench.design.definition import Arm, Design, Study, difference, interaction, minus
from ns_bench.design.profile import Profile

IMBALANCE = 10.0


def design(profile: Profile) -> Design:
    """A pool whose most frequent class is ten times its rarest; one teacher, two students."""
    small, large = profile.rungs[0], profile.rungs[-1]
    teacher = profile.supervised(small, data__imbalance=IMBALANCE)
    supervised = Arm("supervised", teacher)
    arms = {
        (rung, balance): Arm(
            f"{rung}, {'balanced' if balance else 'as it comes'}",
            profile.student(rung, teacher, data__imbalance=IMBALANCE, pseudo__balance=balance),
        )
        for rung in (small, large)
        for balance in (True, False)
    }
    gain = {rung: minus(arms[rung, True].name, arms[rung, False].name) for rung in (small, large)}
    effect = profile.smallest_effect
    papers_small = {"B0 student": 1.0, "B0 student without balancing": -1.0}
    papers_large = {"B3 student": 1.0, "B3 student without balancing": -1.0}
    claims = [
        difference(
            f"Balancing helps the {small} student.",
            arms[small, True].name,
            minus=arms[small, False].name,
            smallest_effect=effect,
            paper=papers_small,
        ),
        difference(
            f"Balancing makes no difference to the {large} student.",
            arms[large, True].name,
            minus=arms[large, False].name,
            smallest_effect=effect,
            kind="equivalent",
            paper=papers_large,
            seen={"digits": 8, "glyphs": 8},
        ),
        interaction(
            "Balancing helps the small student more than the large one.",
            gain[small],
            gain[large],
            effect,
            paper={**papers_small, "B3 student": -1, "B3 student without balancing": 1},
        ),
    ]
    return Design([supervised, *arms.values()], supervised.name, claims)


STUDY = Study(
    name="balancing",
    question="Does balancing the classes of an imbalanced pool help, and whom?",
    factor="student and balancing",
    design=design,
    source="Appendix study #5",
)
