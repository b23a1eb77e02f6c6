"""Is a noisy student better than labels alone, however many labels there are? (paper, Figure 2)

The paper has all of ImageNet's labels. Here it is the profile's number, a quarter of it and four
times as many.
"""

from ns_bench.data.catalog import check, describe
from ns_bench.design.definition import Arm, Claim, Design, Study, difference, untestable
from ns_bench.design.profile import Profile
from ns_bench.errors import UserError
from ns_bench.recipe import Recipe

FACTORS = (0.25, 1, 4)


def pair(profile: Profile, factor: float) -> tuple[Recipe, Recipe]:
    """Return teacher and student, of one size, with `factor` times the profile's labels.

    At equal steps, so that only the labels differ; what is not labeled is in the pool, as ever.

    Raises:
        UserError: the data set has not as many labels, or a batch more.
    """
    small, fields = profile.rungs[0], {}
    if factor != 1:  # else these are the runs of other studies
        data = profile.supervised(small).data
        classes = describe(data).classes
        labels = int(factor * data.labeled) // classes * classes
        fields = {"data__labeled": labels, **profile.shortened(data.labeled / labels)}
    teacher = profile.supervised(small, **fields)
    student = profile.student(small, teacher, **fields)
    check(student)
    return teacher, student


def design(profile: Profile) -> Design:
    """A noisy student of its own size and its teacher, which is the supervised arm."""
    arms: list[Arm] = []
    claims: list[Claim] = []
    names = {0.25: "a quarter of the labels", 1: "the profile's labels", 4: "four times the labels"}
    for factor in FACTORS:
        text = f"A noisy student beats labels alone with {names[factor]}."
        try:
            teacher, student = pair(profile, factor)
        except UserError as error:
            claims.append(untestable(text, str(error)))
            continue
        count = f"{teacher.data.labeled:,} labels"
        arms += [Arm(f"supervised, {count}", teacher), Arm(f"noisy student, {count}", student)]
        claims.append(
            difference(
                text,
                arms[-1].name,
                minus=arms[-2].name,
                smallest_effect=profile.smallest_effect,
                note="in the paper 77.3 to 78.1 of B0 with all of ImageNet's labels",
            )
        )
    baseline = f"supervised, {profile.base('data.labeled'):,} labels"
    return Design(arms, baseline, claims)


STUDY = Study(
    name="labels",
    question="Is a noisy student better than labels alone, however many labels there are?",
    factor="number of labels",
    design=design,
    source="Figure 2, at other numbers of labels",
)
