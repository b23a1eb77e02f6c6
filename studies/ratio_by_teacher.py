"""Does a larger ratio hand on a small teacher's mistakes? (explains appendix study #7)"""

from ns_bench.design.definition import Arm, Design, Study, interaction, slope, trend
from ns_bench.design.profile import Profile

RATIOS = (1, 3, 7)


def design(profile: Profile) -> Design:
    """Ratios at equal labeled epochs, for the largest student: of the smallest teacher, as in
    `batch_ratio`, and of a teacher of its own size."""
    large = profile.rungs[-1]
    supervised = {rung: profile.supervised(rung) for rung in (profile.rungs[0], large)}
    names = {rung: [f"of {rung} {ratio}:1" for ratio in RATIOS] for rung in supervised}
    students = [
        Arm(name, profile.student(large, teacher, train__ratio=ratio))
        for rung, teacher in supervised.items()
        for name, ratio in zip(names[rung], RATIOS, strict=True)
    ]
    effect, of_small, of_own = profile.smallest_effect, *names.values()
    alone = f"{large} supervised"
    claims = [
        interaction(
            "A larger ratio is worth more with a teacher of the student's own size.",
            slope(of_own),
            slope(of_small),
            effect / (len(RATIOS) - 1),
            unit="points a step",
            in_paper=False,
            note="the paper's study has one teacher",
            seen={"fashion": 12},
        ),
        trend(
            "With a teacher of its own size a larger ratio does a student no harm.",
            of_own,
            effect,
            kind="not worse",
            in_paper=False,
            note="+0.7 from 1:1 to 3:1 for L2, of a teacher about as good",
        ),
    ]
    return Design([Arm(alone, supervised[large]), *students], alone, claims)


STUDY = Study(
    name="ratio_by_teacher",
    question="Does a larger ratio hand on a small teacher's mistakes?",
    factor="teacher and unlabeled:labeled ratio",
    design=design,
    source="Appendix study #7, which has one teacher",
)
