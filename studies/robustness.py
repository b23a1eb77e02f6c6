"""Does a noisy student stand more than it was trained for? (paper, Tables 3 to 5, Figure 4)"""

from ns_bench.design.definition import (
    Arm,
    Claim,
    Design,
    Study,
    Weights,
    combine,
    difference,
    minus,
)
from ns_bench.design.profile import Profile
from ns_bench.recipe import without_noise

EPSILON = 8
"""Of the claim on FGSM, in 255ths: the middle of Figure 4's scale of logarithms."""


def design(profile: Profile) -> Design:
    """Two by two: labels alone or pseudo-labels too, with the profile's noise or none at all.

    A drop is clean top-1 minus top-1 on corrupted images: a network that is only more accurate has
    the same drop, so a smaller one is robustness that accuracy does not explain ("effective
    robustness" of Taori et al. 2020, arXiv 2007.00644, in its simplest form). The student without
    noise has a teacher without noise, so that noise is in neither of the pair or in both.
    """
    small = profile.rungs[0]
    noised = profile.supervised(small)
    no_noise = without_noise("labeled", "unlabeled")
    plain = profile.supervised(small, **no_noise)
    supervised = Arm("supervised", noised)
    supervised_plain = Arm("supervised, no noise", plain)
    student = Arm("noisy student", profile.student(small, noised))
    student_plain = Arm("student, no noise", profile.student(small, plain, **no_noise))
    # of a drop, less is more
    gain = minus(supervised.name, student.name)
    gain_plain = minus(supervised_plain.name, student_plain.name)
    interaction = combine((1, gain), (-1, gain_plain))
    effect = profile.smallest_effect
    clean = "mCE 47.5 to 30.0 at 224 px (Table 4), while clean top-1 rose 85.5 to 88.4"

    def about(
        text: str, metric: str, weights: Weights, note: str, unit: str = "points of drop"
    ) -> Claim:
        return Claim(text, (weights,), effect, metric=metric, note=note, unit=unit)

    claims = [
        about(
            "A noisy student loses less to corruptions than the supervised model: robustness "
            "improves by more than clean accuracy does.",
            "corruption_drop",
            gain,
            clean,
        ),
        about(
            "So it does on corruptions that RandAugment does not overlap.",
            "corruption_other_drop",
            gain,
            "the paper says that its RandAugment overlaps three (footnote 4), not what is left",
        ),
        about(
            "Self-training cuts that loss by more with noise than without.",
            "corruption_drop",
            interaction,
            "not in the paper: it has no student without noise on ImageNet-C",
        ),
        about(
            "So it does on corruptions that RandAugment does not overlap, with noise and without.",
            "corruption_other_drop",
            interaction,
            "not in the paper",
        ),
        about(
            "A noisy student's labels are more stable under perturbations.",
            "perturbation_flips",
            gain,
            "mFR 27.2 to 14.2 at 224 px (Table 5)",
            unit="points of flip probability",
        ),
        difference(
            f"A noisy student is more accurate under FGSM at {EPSILON}/255.",
            student.name,
            minus=supervised.name,
            smallest_effect=effect,
            metric=f"adversarial_fgsm_{EPSILON}",
            unit="points under attack",
            note="62.3 to 76.4 at eps 8, 85.5 to 88.4 without attack (Figure 4, 800 px)",
        ),
    ]
    return Design([supervised, supervised_plain, student_plain, student], supervised.name, claims)


STUDY = Study(
    name="robustness",
    question="Is a noisy student more robust, and by more than its accuracy explains?",
    factor="training",
    design=design,
    source="Tables 3 to 5 and Figure 4",
    metrics=("corruption", "perturbation", "adversarial", "out_of_domain"),
)
