"""When a trial is surely worse than another."""

from collections.abc import Sequence

from ns_bench.tuning.quiet import quiet

LEAST_SEEDS = 3
"""Seeds at which Wilcoxon's signed-rank test can first say p = 1/8, so that a trial may stop."""

PRUNE_P = 0.2


def surely_worse(values: Sequence[float], best: Sequence[float]) -> bool:
    """Whether scores are below the best trial's at the same seeds (Optuna's WilcoxonPruner)."""
    import optuna

    with quiet():
        study = optuna.create_study(direction="maximize")
        study.add_trial(
            optuna.trial.create_trial(
                value=sum(best) / len(best), intermediate_values=dict(enumerate(best))
            )
        )
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, intermediate_values=dict(enumerate(values))
        )
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=PRUNE_P, n_startup_steps=LEAST_SEEDS)
        return pruner.prune(study, trial)
