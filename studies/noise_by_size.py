"""Is noise on unlabeled images worth more to a network with more room? (explains Table 6)"""

from ns_bench.design.definition import Arm, Claim, Design, Study, combine, difference, slope
from ns_bench.design.profile import Profile
from ns_bench.recipe import without_noise


def design(profile: Profile) -> Design:
    """Up the ladder students of a teacher of their own size, with and without noise on unlabeled
    images; the profile's noise of each size."""
    supervised, noised, clean = [], [], []
    for rung in profile.rungs:
        teacher = profile.supervised(rung)
        supervised.append(Arm(f"{rung} supervised", teacher))
        noised.append(Arm(f"{rung} student", profile.student(rung, teacher)))
        without = profile.student(rung, teacher, **without_noise("unlabeled"))
        clean.append(Arm(f"{rung} student, no noise", without))
    effect, top = profile.smallest_effect, -1
    slopes = [slope([arm.name for arm in arms]) for arms in (noised, clean)]
    claims = [
        difference(
            "At the top of the ladder noise on unlabeled images makes a better student.",
            noised[top].name,
            minus=clean[top].name,
            smallest_effect=effect,
            note="0.8 of B5 with 130M images, 0.7 with 1.3M (Table 6)",
        ),
        Claim(
            "The larger the network, the more noise on unlabeled images is worth to it.",
            (combine((1, slopes[0]), (-1, slopes[1])),),
            effect / (len(profile.rungs) - 1),
            unit="points a step",
            in_paper=False,
            note="Table 6 is of one size",
            seen={"fashion": 12},
        ),
    ]
    return Design([*supervised, *noised, *clean], supervised[0].name, claims)


STUDY = Study(
    name="noise_by_size",
    question="Is noise on unlabeled images worth more to a network with more room?",
    factor="size, and noise on unlabeled images",
    design=design,
    source="Table 6, which is of one size",
)
