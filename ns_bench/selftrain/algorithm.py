"""Algorithm 1 of the paper (arXiv 1911.04252): train, label, train a noised student, repeat.

    from ns_bench.data.split import load
    from ns_bench.selftrain import self_train
    from ns_bench.selftrain.evaluate import evaluate

    data = load(student.data, seed=0)
    network = self_train(student, data)
    print(evaluate(network, data.test))

A recipe holds its teacher's, so one recipe is the whole chain. What a study does with a store
(`ns_bench.execute.run_one`) are the same steps, each kept as a file.
"""

from torch import Tensor, nn

from ns_bench.data.split import Dataset, Images
from ns_bench.data.streams import stream
from ns_bench.recipe import Recipe
from ns_bench.selftrain.evaluate import predict, predict_noised, predict_views
from ns_bench.selftrain.pseudo import pseudo_label
from ns_bench.selftrain.targets import Sparse
from ns_bench.selftrain.train import CPU, Lesson, Machine, train


def self_train(recipe: Recipe, data: Dataset, machine: Machine = CPU) -> nn.Module:
    """Return the last student's averaged network, in eval mode; it takes uint8 images.

    Args:
        recipe: of the last student; its teachers' are inside it.
        data: of the recipe's seed, at the size that it has in its files.

    Raises:
        Diverged, UserError: see `train` and `pseudo_label`.
    """
    first, *students = recipe.generations
    network = train(first, data, machine=machine)  # 1. learn from labeled images
    teacher = Teacher(first, network)
    for student in students:
        lesson = teach(student, teacher, data)  # 2. label the unlabeled images, clean
        network = train(student, data, lesson, machine)  # 3. learn from both, noised
        teacher = Teacher(student, network)  # 4. the student is the next teacher
    return network


class Teacher:
    """A trained network that labels the pool for its students."""

    def __init__(self, recipe: Recipe, network: nn.Module) -> None:
        self.recipe, self._network = recipe, network

    @property
    def network(self) -> nn.Module:
        """Its averaged weights, in eval mode; it takes uint8 images."""
        return self._network

    def logits(self, pool: Images) -> Tensor | Sparse:
        """Return the logits of clean images, float16 [pool, classes]."""
        return predict(self.network, pool).half()

    def logits_for(self, student: Recipe, pool: Images) -> Tensor | Sparse:
        """Return what a student's labels are made of, any float type [pool, classes].

        With noise (Table 6, last row) or from several views, if its recipe says so.
        """
        if student.pseudo.noised_teacher:
            return predict_noised(self.network, pool, self.recipe.noise.labeled, student.seed)
        if views := student.pseudo.views - 1:
            noise = student.noise.unlabeled
            return predict_views(self.network, pool, noise, 1 + views, student.seed)
        return self.logits(pool)


def teach(student: Recipe, teacher: Teacher, data: Dataset) -> Lesson:
    """Return what a student has from its teacher: pseudo-labels, first weights, logits."""
    labels = weights = distilled = None
    data = data.resized(
        teacher.recipe.train.resolution
    )  # a teacher sees images as large as it was trained on
    if student.batch[1]:
        logits = teacher.logits_for(student, data.unlabeled.images)
        draws = stream(student.seed, "balance", student.generation)
        labels = pseudo_label(logits, student.pseudo, student.train.label_smoothing, draws)
    if student.train.start == "teacher":
        weights = teacher.network.state_dict()
    if student.distillation.weight:
        device = next(teacher.network.parameters()).device
        distilled = predict(teacher.network, data.labeled.images).to(device)
    return Lesson(labels, weights, distilled)
