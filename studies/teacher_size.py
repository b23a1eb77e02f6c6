"""Does a larger, better teacher give a better student? (paper, Figure 2 and appendix study #1)"""

from ns_bench.design.definition import Arm, Design, Study, difference, trend
from ns_bench.design.profile import Profile


def design(profile: Profile) -> Design:
    """One student at the foot of the ladder, so that every teacher is its equal or larger."""
    student, largest = profile.rungs[0], profile.rungs[-1]
    baseline = Arm("supervised", profile.supervised(student), paper="B0 supervised")
    paper = {student: "B0 student of B0", largest: "B0 student of L2"}
    students = {
        rung: Arm(
            f"{rung} teacher",
            profile.student(student, profile.supervised(rung)),
            paper=paper.get(rung, ""),
        )
        for rung in profile.rungs
    }
    claims = [
        trend(
            "A larger teacher gives a better student.",
            [arm.name for arm in students.values()],
            profile.smallest_effect,
            paper={"B0 student of L2": 1, "B0 student of B0": -1},
            note="first to last teacher, not a step",
        ),
        *(
            difference(
                f"The noisy student of the {rung} teacher beats the supervised student.",
                arm.name,
                minus=baseline.name,
                smallest_effect=profile.smallest_effect,
                paper={arm.paper: 1, baseline.paper: -1} if arm.paper else {},
            )
            for rung, arm in students.items()
        ),
    ]
    return Design([baseline, *students.values()], baseline.name, claims)


STUDY = Study(
    name="teacher_size",
    question="Does a larger, better teacher give a better student of one size?",
    factor="teacher",
    design=design,
    source="Figure 2 and appendix study #1",
)
