"""Show a search in an Optuna storage, for its dashboard. The run store stays the truth."""

import json
import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar

from ns_bench.errors import UserError
from ns_bench.files import locked
from ns_bench.tuning.quiet import quiet
from ns_bench.tuning.sampler import NUMBER, distribution, frozen
from ns_bench.tuning.trials import Search, Standing

if TYPE_CHECKING:
    import optuna

IDENTITY = "ns_bench search"
METRICS = {"accuracy": "validation top-1 (%)", "cost": "seconds of training, estimated"}

T = TypeVar("T")
_BUSY = re.compile("already exists|is locked|UNIQUE constraint|duplicate key")


class Mirror:
    """Ended trials of searches in a storage, one Optuna study an arm.

    Only trials that have ended are there, so that none is left hanging when a search is killed,
    and each after those before it: it has the number that reports give it.

    Args:
        url: of an Optuna storage, e.g. sqlite:///search.db or postgresql+psycopg://host/name.

    Raises:
        UserError: it cannot be reached, or holds another study or space of that name.
    """

    def __init__(self, url: str, searches: Sequence[Search]) -> None:
        self.url = url
        if url.partition("://")[2].strip("/") in ("", ":memory:"):
            raise UserError(f"--storage {url}: expected one that stays, like sqlite:///search.db")
        with quiet():
            self.studies = {search.arm: self._open(search) for search in searches}

    def show(self, search: Search, standings: Sequence[Standing]) -> None:
        """Add the trials that have ended since the last call. UserError: the storage is gone."""
        ended = [*takewhile(lambda s: s.state != "running", standings)]
        search.folder.mkdir(parents=True, exist_ok=True)
        with quiet(), locked(search.folder / "mirror.lock"):  # of two callers, one adds a trial
            study = self.studies[search.arm]

            def add() -> None:
                there = {trial.user_attrs.get(NUMBER) for trial in study.get_trials(deepcopy=False)}
                fresh = [s for s in ended if s.trial.number not in there]
                for standing in fresh:
                    record = frozen(search, standing)
                    assert record.datetime_complete is not None  # now; it lasted as long as:
                    training = timedelta(seconds=standing.seconds)
                    record.datetime_start = record.datetime_complete - training
                    study.add_trial(record)

            try:
                _patiently(add)
            except Exception as error:
                raise self._unusable(error) from None

    def _open(self, search: Search) -> "optuna.study.Study":
        import optuna

        name = f"{search.settings.id}/{search.slug}"
        directions = search.settings.directions
        identity = json.dumps(search.identity, sort_keys=True)
        create = partial(
            optuna.create_study,
            study_name=name,
            storage=self.url,
            directions=directions,
            load_if_exists=True,
        )
        try:
            study = _patiently(create)
            trials = study.get_trials(deepcopy=False)
            known = study.user_attrs.get(IDENTITY)
            if known is None and not trials:
                study.set_user_attr(IDENTITY, identity)
                study.set_metric_names([METRICS[o] for o in search.settings.objectives])
                known = identity
        except Exception as error:
            raise self._unusable(error) from None
        kinds = {d.name: distribution(d) for d in search.space}
        alike = all(
            NUMBER in t.user_attrs
            and all(kinds.get(name) == kind for name, kind in t.distributions.items())
            for t in trials
        )
        if known != identity or not alike:
            raise UserError(
                f"--storage {self._shown}: its study '{name}' belongs to another study or space; "
                "choose another storage"
            )
        return study

    @property
    def _shown(self) -> str:
        """The URL without its password."""
        scheme, separator, rest = self.url.partition("://")
        user, at, host = rest.rpartition("@")
        return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}"

    def _unusable(self, error: Exception) -> UserError:
        if isinstance(error, ModuleNotFoundError):
            return UserError(
                f"--storage {self._shown}: the driver '{error.name}' is missing; for PostgreSQL "
                "pip install 'ns_bench[postgresql]' and write postgresql+psycopg://..."
            )
        why = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        return UserError(f"--storage {self._shown} cannot be used: {why[0]}")


def _patiently(call: Callable[[], T]) -> T:
    """Return what `call` does, which is tried again for half a minute where another search makes
    the same tables or holds their lock."""
    for pause in (0.1, 0.3, 1, 3, 10, 15):
        try:
            return call()
        except Exception as error:  # SQLAlchemy's, a driver's or Optuna's
            if not _BUSY.search(f"{error} {error.__cause__}"):
                raise
        time.sleep(pause)
    return call()
