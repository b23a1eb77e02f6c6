"""Does the size of the labeled batch matter? (paper, section 4.1)"""

from ns_bench.design.definition import Arm, Claim, Design, Study, minus
from ns_bench.design.profile import Profile


def design(profile: Profile) -> Design:
    """Batches of 1, 1/2 and 1/4 at equal epochs; the learning rate goes with the batch.

    The average of the weights reaches back as many epochs in every arm.
    """
    small = profile.rungs[0]
    teacher = profile.supervised(small)
    supervised = Arm("supervised", teacher)
    batch, lr, ema = (profile.base(f"train.{f}") for f in ("batch_size", "lr", "ema"))
    arms = [
        Arm(
            "batch x1" if part == 1 else f"batch x1/{part}",
            profile.student(
                small,
                teacher,
                train__batch_size=batch // part,
                train__lr=lr / part,
                train__ema=ema ** (1 / part),
            ),
        )
        for part in (1, 2, 4)
    ]
    claims = [
        Claim(
            "Half and a quarter of the batch, at the rate to go with it, give the same accuracy.",
            tuple(minus(arm.name, arms[0].name) for arm in arms[1:]),
            profile.smallest_effect,
            kind="equivalent",
            note="section 4.1: 512, 1024 and 2048 give the same accuracy; no figure is given",
        ),
    ]
    return Design([supervised, *arms], supervised.name, claims)


STUDY = Study(
    name="batch_size",
    question="Does the size of the labeled batch matter?",
    factor="labeled batch",
    design=design,
    source="Section 4.1",
)
