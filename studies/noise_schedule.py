"""Is it better to fade the noise on unlabeled images out over training? (not in the paper)"""

from ns_bench.design.definition import Arm, Design, Study, difference
from ns_bench.design.profile import Profile

SCHEDULES = ("constant", "fading", "rising")


def design(profile: Profile) -> Design:
    """Labeled rows keep their noise; that of unlabeled rows is constant, fades out or rises."""
    small = profile.rungs[0]
    teacher = profile.supervised(small)
    supervised = Arm("supervised", teacher)
    arms = [
        Arm(name, profile.student(small, teacher, noise__unlabeled_schedule=name))
        for name in SCHEDULES
    ]
    claims = [
        difference(
            f"{name.capitalize()} noise on unlabeled images is not better than constant noise.",
            "constant",
            minus=name,
            smallest_effect=profile.smallest_effect,
            kind="not worse",
            in_paper=False,
        )
        for name in SCHEDULES[1:]
    ]
    return Design([supervised, *arms], supervised.name, claims)


STUDY = Study(
    name="noise_schedule",
    question="Is it better to fade the noise on unlabeled images out over training?",
    factor="schedule of the noise on unlabeled images",
    design=design,
    source="not in the paper",
)
