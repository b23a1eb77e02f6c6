"""Does it help to let the student teach again? (paper, Table 7)"""

from ns_bench.design.definition import Arm, Design, Study, difference, interaction, minus
from ns_bench.design.profile import Profile


def design(profile: Profile) -> Design:
    """Three rounds at one size, so that only the teacher gets better from round to round.

    The paper's last round changes its teacher and its ratio at once; here each changes alone.
    """
    small = profile.rungs[0]
    ratio = profile.base("train.ratio")
    rounds = [profile.supervised(small)]
    for _ in range(3):
        rounds.append(profile.student(small, rounds[-1]))
    arms = [Arm("supervised", rounds[0])]
    arms += [Arm(f"round {i}", rounds[i]) for i in (1, 2, 3)]
    double = profile.student(small, rounds[0], train__ratio=2 * ratio)
    wider = Arm("round 1, twice the ratio", double)
    effect = profile.smallest_effect
    claims = [
        difference("The first round helps.", "round 1", "supervised", effect),
        difference(
            "The second round helps.",
            "round 2",
            "round 1",
            effect,
            paper={"iteration 2": 1, "iteration 1": -1},
            note="of two larger students",
        ),
        difference(
            "The third round helps.",
            "round 3",
            "round 2",
            effect,
            paper={"iteration 3": 1, "iteration 2": -1},
            note="of a larger ratio as well",
        ),
        difference(
            "Three rounds beat one.",
            "round 3",
            "round 1",
            effect,
            paper={"iteration 3": 1, "iteration 1": -1},
            note="of two larger students, and of a larger ratio in the third",
            seen={"digits": 8},
        ),
        interaction(
            "Returns diminish: the first round brings more than the second.",
            minus("round 1", "supervised"),
            minus("round 2", "round 1"),
            effect,
        ),
        difference(
            "A better teacher at the same ratio beats the same teacher at twice the ratio.",
            "round 2",
            wider.name,
            effect,
            in_paper=False,
            note="the paper's third round changes both at once (Table 7)",
        ),
    ]
    return Design([*arms, wider], "supervised", claims)


STUDY = Study(
    name="iterations",
    question="Does it help to let the student teach again, and is it the better teacher?",
    factor="round",
    design=design,
    source="Table 7",
)
