"""Is it as good to start the student from its teacher's weights? (paper, appendix study #8)"""

from ns_bench.design.definition import Arm, Claim, Design, Study, minus, trend
from ns_bench.design.profile import Profile

SHARES = {"1/10": 0.1, "1/5": 0.2, "2/5": 0.4, "4/5": 0.8}


def design(profile: Profile) -> Design:
    """From scratch for all epochs; from the teacher for a part of them, the schedule shortened."""
    small = profile.rungs[0]
    teacher = profile.supervised(small)
    supervised = Arm("supervised", teacher)
    scratch = Arm("scratch", profile.student(small, teacher), paper="B0 from scratch 350 epochs")
    warm = [
        Arm(
            f"from teacher, {name}",
            profile.student(small, teacher, train__start="teacher", **profile.shortened(share)),
            paper=f"B0 from teacher {round(350 * share)} epochs",
        )
        for name, share in SHARES.items()
    ]
    claims = [
        Claim(
            "From scratch at full length is at least as good as any warm start.",
            tuple(minus(scratch.name, arm.name) for arm in warm),
            profile.smallest_effect,
            kind="not worse",
            paper={scratch.paper: 1, warm[-1].paper: -1},
            note="against the longest warm start",
        ),
        trend(
            "A warm-started student gets better the longer it trains.",
            [arm.name for arm in warm],
            profile.smallest_effect,
            paper={warm[-1].paper: 1, warm[0].paper: -1},
            note="longest against shortest",
        ),
    ]
    return Design([supervised, scratch, *warm], supervised.name, claims)


STUDY = Study(
    name="warm_start",
    question="Is it as good to start the student from its teacher's weights?",
    factor="start, and share of the epochs",
    design=design,
    source="Appendix study #8",
)
