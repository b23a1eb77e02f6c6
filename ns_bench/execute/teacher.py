"""A finished run that teaches: its artifacts are checked before a student starts."""

import hashlib
import json
from collections.abc import Callable
from functools import cached_property, partial

import safetensors.torch
from torch import Tensor, nn

from ns_bench.data.split import Dataset, Images
from ns_bench.design.cost import check_labels
from ns_bench.execute.label import pool_labels
from ns_bench.execute.trained import network_of
from ns_bench.files import Corrupt, publish, seal, unseal
from ns_bench.recipe import Recipe
from ns_bench.runs.store import LOGITS, MODEL, RELABELED, Run
from ns_bench.selftrain.algorithm import Teacher
from ns_bench.selftrain.scale import parallel
from ns_bench.selftrain.targets import Sparse


class TeacherUnfit(Exception):
    """What the teacher published is missing or damaged: it has to be done again first."""


class StoredTeacher(Teacher):
    """The teacher of a run in a store: what it published is read where it is needed.

    Args:
        student: the run that it teaches; labels that are made for it alone are kept there until it
            is done, so that a resumed run does not make them again.
        data: of the student's recipe, at the size that it has in its files.
        alive: is called now and then while it labels; may raise.

    Raises:
        TeacherUnfit: an artifact that is asked for is missing or damaged.
    """

    def __init__(self, student: Run, data: Dataset, device: str, alive: Callable[[], None]) -> None:
        assert student.teacher is not None
        self.student, self.run, self.recipe = student, student.teacher, student.teacher.recipe
        self.data = data.resized(self.recipe.train.resolution)
        self.device, self.alive = device, alive
        self._logits = self._artifact(LOGITS)

    @property
    def sha256(self) -> str:
        """Of the stored logits: which teacher it was."""
        return hashlib.sha256(self._logits).hexdigest()

    @cached_property
    def network(self) -> nn.Module:
        try:
            return network_of(self.run, self.data, self.device)
        except (Corrupt, OSError) as error:
            raise TeacherUnfit(f"teacher {self.run.id}: {error}") from None

    def logits(self, pool: Images) -> Tensor | Sparse:
        """Return the stored logits, float16 [pool, classes]; of a large pool the top classes of
        each image, of which what is missing is made."""
        stored = safetensors.torch.load(self._logits)
        if "logits" in stored:
            return stored["logits"]
        classes = self.data.classes
        return pool_labels(self.run, pool, classes, lambda: self.network, self.alive)

    def logits_for(self, student: Recipe, pool: Images) -> Tensor | Sparse:
        check_labels(student)
        spec = student.pseudo
        label = partial(super().logits_for, student, pool)
        return self._kept(label) if spec.noised_teacher or spec.views > 1 else label()

    def _kept(self, label: Callable[[], Tensor | Sparse]) -> Tensor:
        """Return the labels that an earlier attempt kept, or make and keep them."""
        path = self.student.path / RELABELED
        note = {"model": hashlib.sha256(self._artifact(MODEL)).hexdigest()}

        def valid() -> bool:
            try:
                content = unseal(path.read_bytes())
            except (FileNotFoundError, Corrupt):
                return False
            header = int.from_bytes(content[:8], "little")
            return bool(json.loads(content[8 : 8 + header])["__metadata__"] == note)

        if not parallel.on_leader(valid):
            logits = label()
            assert isinstance(logits, Tensor)
            content = seal(safetensors.torch.save({"logits": logits.contiguous()}, note))
            parallel.on_leader(lambda: publish(path, content))
        return safetensors.torch.load(unseal(path.read_bytes()))["logits"]

    def _artifact(self, name: str) -> bytes:
        try:
            return self.run.artifact(name).read_bytes()
        except (Corrupt, OSError) as error:
            raise TeacherUnfit(f"teacher {self.run.id}: {error}") from None
