"""Does a larger, better teacher give a better student? (paper, Figure 2 and appendix study #1)"""

from ns_bench.definition import Arm, Design, Profile, Study, difference, trend


def design(profile: Profile) -> Design:
    """One student at the foot of the ladder, so that every teacher is its equal or larger."""
    student = profile.rungs[0]
    baseline = Arm("supervised", profile.supervised(student), paper="B0 supervised")
    paper = {profile.rungs[0]: "B0 student of B0", profile.rungs[-1]: "B0 student of L2"}
    students = [
        Arm(
            f"{rung} teacher",
            profile.student(student, profile.supervised(rung)),
            paper=paper.get(rung, ""),
        )
        for rung in profile.rungs
    ]
    claims = [
        trend(
            "A larger teacher gives a better student.",
            [arm.name for arm in students],
            smallest_effect=0.25,
            paper="B0 student: +0.7 from its equal (78.1) to L2 (78.8) as teacher [v2, study #1]",
        ),
        *(
            difference(
                f"The noisy student of the {rung} teacher beats the supervised student.",
                arm.name,
                minus=baseline.name,
                smallest_effect=0.5,
                paper="B0: 77.3 supervised; student of B0 +0.8 [v4, Figure 2], of L2 +1.5 [v2]",
            )
            for rung, arm in zip(profile.rungs, students, strict=True)
        ),
    ]
    return Design([baseline, *students], baseline.name, claims)


STUDY = Study(
    name="teacher_size",
    question="Does a larger, better teacher give a better student of one size?",
    factor="teacher",
    design=design,
    source="Figure 2 and appendix study #1",
)
