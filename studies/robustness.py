"""Does a noisy student stand more than it was trained for? (paper, Tables 3 to 5, Figure 4)"""

from typing import Any

from ns_bench.design.definition import (
    Arm,
    Claim,
    Design,
    Study,
    Weights,
    combine,
    minus,
    untestable,
)
from ns_bench.design.profile import Profile
from ns_bench.recipe import without_noise

EPSILON, PGD_EPSILON = 8, 16
"""Of the claims on attacks, in 255ths: the middle of Figure 4's scale of logarithms, and the only
one that the paper has of PGD."""

TENTH = 0.15
"""Smallest effect on flips, in halvings: a tenth fewer. The paper's mFR falls by .94 of one."""

SEEN = {"digits": 8}


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
    more, less = minus(student.name, supervised.name), minus(supervised.name, student.name)
    effect = profile.smallest_effect

    def about(text: str, metric: str, weights: Weights, unit: str, **rest: Any) -> Claim:
        return Claim(
            text, (weights,), **{"smallest_effect": effect, "metric": metric, "unit": unit, **rest}
        )

    claims = [
        about(
            "A noisy student is more accurate on corrupted images.",
            "corruption_top1",
            more,
            "points on corrupted images",
            paper={"NST L2 224px": 1, "EfficientNet-L2 224px": -1},
            paper_metric="imagenet_c_top1",
            note="at 224 px (Table 4), where mCE falls from 47.5 to 30.0",
            seen=SEEN,
        ),
        about(
            "A noisy student's labels flip less often under perturbations.",
            "perturbation_flips",
            less,
            "halvings of flips",
            smallest_effect=TENTH,
            logarithm=True,
            paper={"EfficientNet-L2 224px": 1, "NST L2 224px": -1},
            paper_metric="mfr",
            note="mFR 27.2 to 14.2 at 224 px (Table 5)",
            seen=SEEN,
        ),
        about(
            f"A noisy student is more accurate under FGSM at {EPSILON}/255.",
            f"adversarial_fgsm_{EPSILON}",
            more,
            "points under attack",
            paper={f"NST L2 eps={EPSILON}": 1, f"EfficientNet-L2 eps={EPSILON}": -1},
            paper_metric="fgsm_top1",
            note="at 800 px (Figure 4), where +2.9 are there without attack",
        ),
        about(
            f"A noisy student is more accurate under PGD at {PGD_EPSILON}/255.",
            f"adversarial_pgd_{PGD_EPSILON}",
            more,
            "points under attack",
            paper={"NST L2 eps=16": 1, "EfficientNet-L2 eps=16": -1},
            paper_metric="pgd_top1",
            note="1.1 to 4.4 (section 3.4)",
            seen=SEEN,
        ),
        about(
            "A noisy student loses less to corruptions than the supervised model: robustness "
            "improves by more than clean accuracy does.",
            "corruption_drop",
            less,
            "points of drop",
            in_paper=False,
            note="mCE 47.5 to 30.0 at 224 px (Table 4), while clean top-1 rose 85.5 to 88.4",
        ),
        about(
            "Self-training cuts that loss by more with noise than without.",
            "corruption_drop",
            combine((1, less), (-1, minus(supervised_plain.name, student_plain.name))),
            "points of drop",
            in_paper=False,
        ),
        untestable(
            "A noisy student is more accurate on natural images that are hard for networks.",
            "ImageNet-A is made of ImageNet's classes, and is not read here",
            note="49.6 to 83.7 (Table 3)",
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
