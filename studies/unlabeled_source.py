"""Does an unlabeled pool of another domain help as well? (paper, appendix A.4: YFCC for JFT)"""

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
from ns_bench.recipe import NO_FILES


def design(profile: Profile) -> Design:
    """Both pools have the same number of images; labels, validation and test stay the same.

    Images are normalised by what may be trained on, the pool too, so each pool has its teacher.
    """
    small = profile.rungs[0]
    own = "The student of a pool of another domain still exceeds its teacher."
    less = "A student gains more from a pool of the labels' own domain."
    if not profile.other_pool:
        arm = Arm("same domain, teacher", profile.supervised(small))
        why = f"profile '{profile.name}' has no pool of another domain"
        return Design([arm], arm.name, [untestable(text, why) for text in (own, less)])
    images, arms = profile.other_images, []
    if images == profile.pool:  # as every other study has it, so that runs are shared
        images = profile.base("data.unlabeled")
    for name, source in (("same domain", ""), ("another domain", profile.other_pool)):
        pool = {"data__source": source, "data__unlabeled": images}
        teacher = profile.supervised(small, **pool)
        student = profile.student(small, teacher, **pool)
        arms += [Arm(f"{name}, teacher", teacher), Arm(f"{name}, student", student)]
    gain = {
        name: minus(f"{name}, student", f"{name}, teacher")
        for name in ("same domain", "another domain")
    }
    near = profile.other_pool not in NO_FILES
    drawn = (
        f"the pool of another domain is {profile.other_pool}, of which a teacher gets few right "
        "(27 % of glyphs in digits); the paper's YFCC is photos, as its labels are"
    )
    effect = profile.smallest_effect
    claims = [
        difference(own, "another domain, student", "another domain, teacher", effect)
        if near
        else untestable(own, drawn),
        interaction(
            less,
            gain["same domain"],
            gain["another domain"],
            effect,
            in_paper=near,
            note="slightly below JFT for most sizes (unverified, no values)",
        ),
    ]
    return Design(arms, arms[0].name, claims)


STUDY = Study(
    name="unlabeled_source",
    question="Does an unlabeled pool of another domain help as well?",
    factor="where the unlabeled pool is from",
    design=design,
    source="Appendix A.4",
)
