"""Does the gain carry over to another family of networks? (paper, appendix A.3)"""

from ns_bench.design.definition import (
    Arm,
    Design,
    Study,
    difference,
    interaction,
    minus,
    untestable,
)
from ns_bench.design.profile import Profile

TEXT = "The student exceeds its teacher in a ResNet, too."


def design(profile: Profile) -> Design:
    """In each family the student has its teacher's network; all share the profile's recipe."""
    small = profile.rungs[0]
    families = profile.architectures or {"EfficientNet": profile.ladder[small]}
    paper = {"ResNet": ("ResNet-50 supervised", "ResNet-50 student")}
    arms = []
    for family, model in families.items():
        teacher = profile.supervised(small, model=model)
        student = profile.student(small, teacher, model=model)
        rows = paper.get(family, ("", ""))
        arms.append(Arm(f"{family}, teacher", teacher, paper=rows[0]))
        arms.append(Arm(f"{family}, student", student, paper=rows[1]))
    first = next(iter(families))
    if "ResNet" not in families or first == "ResNet":
        why = f"profile '{profile.name}' has no second family of networks"
        return Design(arms, arms[0].name, [untestable(TEXT, why)])
    gain = {family: minus(f"{family}, student", f"{family}, teacher") for family in families}
    claims = [
        difference(
            TEXT,
            "ResNet, student",
            "ResNet, teacher",
            profile.smallest_effect,
            paper={"ResNet-50 student": 1, "ResNet-50 supervised": -1},
        ),
        interaction(
            f"A ResNet gains no less than an {first}.",
            gain["ResNet"],
            gain[first],
            profile.smallest_effect,
            kind="not worse",
            note="+1.3 (unverified) against about +0.8 (Figure 2)",
        ),
    ]
    return Design(arms, arms[0].name, claims)


STUDY = Study(
    name="architecture",
    question="Does the gain carry over to another family of networks?",
    factor="family of networks",
    design=design,
    source="Appendix A.3",
)
