"""Does a larger student gain more from the same teacher? (paper, appendix study #4)"""

from ns_bench.design.definition import Arm, Claim, Design, Study, interaction, minus, trend
from ns_bench.design.profile import Profile


def design(profile: Profile) -> Design:
    """Students from a teacher's own size up the ladder, at every teacher."""
    small, medium = profile.rungs[:2]
    supervised = {r: Arm(f"{r} supervised", profile.supervised(r)) for r in profile.rungs}
    arms = {
        (teacher, student): Arm(
            f"{student} of {teacher}",
            profile.student(student, profile.supervised(teacher)),
        )
        for i, teacher in enumerate(profile.rungs)
        for student in profile.rungs[i:]
    }

    def students(teacher: str) -> list[str]:
        return [arm.name for (taught_by, _), arm in arms.items() if taught_by == teacher]

    def trend_at(teacher: str, equal: str, larger: str) -> Claim:
        return trend(
            f"A larger student learns more from the {teacher} teacher.",
            students(teacher),
            profile.smallest_effect,
            paper={f"{larger} student of {equal}": 1, f"{equal} student of {equal}": -1},
            note="one size up",
        )

    claims = [
        trend_at(small, "B0", "B1"),
        trend_at(medium, "B2", "B3"),
        interaction(
            "A larger student gains more over its own size trained on labels alone.",
            minus(arms[small, profile.rungs[-1]].name, supervised[profile.rungs[-1]].name),
            minus(arms[small, small].name, supervised[small].name),
            profile.smallest_effect,
            in_paper=False,
            note="the paper compares with the teacher only, which mixes this with size itself",
        ),
        Claim(
            "A noisy student of a teacher of its own size beats labels alone, at every size.",
            tuple(minus(arms[r, r].name, supervised[r].name) for r in profile.rungs),
            profile.smallest_effect,
            paper={"B0 student of B0": 1, "B0 teacher": -1},
            note="Figure 2: 0.8 to 1.4 from B0 to B7 [v4]",
            seen={"digits": 8},
        ),
    ]
    baseline = supervised[small]
    return Design([*supervised.values(), *arms.values()], baseline.name, claims)


STUDY = Study(
    name="student_size",
    question="Does a larger student gain more from the same teacher?",
    factor="student of a teacher",
    design=design,
    source="Appendix study #4",
)
