"""The shipped table of published numbers says what the paper says, and no more."""

import csv
import dataclasses
import itertools
import math
from collections import Counter

import pytest

from ns_bench.files import folder
from ns_bench.verdicts import paper

COLUMNS = ["study", "arm", "metric", "value", "unit", "version", "source", "verified", "note"]
STUDIES = {
    "models",
    "balancing",
    "batch_ratio",
    "iterations",
    "joint_vs_finetune",
    "key_results",
    "noise",
    "architecture",
    "related_methods",
    "robustness",
    "small_scale",
    "soft_vs_hard",
    "student_size",
    "svhn",
    "teacher_size",
    "unlabeled_size",
    "unlabeled_source",
    "warm_start",
}
ALLOWED = {  # unit -> lowest and highest value that could be meant
    "%": (0.0, 100.0),
    "points": (-5.0, 20.0),
    "M": (20.0, 3500.0),
    "K": (130.0, 130.0),
    "x": (1.0, 28.0),
    "px": (224.0, 800.0),
    "fraction": (0.0, 1.0),
    "days": (1.0, 31.0),
    "cores": (1.0, 4096.0),
}

# study, arm, metric, version, value: typed by hand from the page of reference facts.
GOLDEN = [
    ("key_results", "previous state of the art", "mfr", "v4", 27.8),
    ("key_results", "NST L2", "imagenet_a_top1", "v4", 83.7),
    ("key_results", "NST L2 475px", "top1", "tpu", 88.2),
    ("models", "L1", "params", "v1", 273),
    ("models", "L2", "train_resolution", "v1", 475),
    ("models", "B6", "depth", "code", 2.6),
    ("models", "B0", "dropout", "code", 0.2),
    ("related_methods", "GPipe", "params", "v4", 557),
    ("related_methods", "BiT-L", "top5", "v4", 98.5),
    ("related_methods", "ResNeXt-101 WSL", "extra_images", "v4", 3500),
    ("related_methods", "NST L2", "top1", "v1", 87.4),
    ("related_methods", "NST L2", "top1", "v4", 88.4),
    ("teacher_size", "B0 supervised", "top1", "v4", 77.3),
    ("teacher_size", "B0 supervised", "top5", "v2", 93.4),
    ("teacher_size", "B0 student of B0", "top1", "v4", 78.1),
    ("teacher_size", "B4 student of B4", "top1", "v2", 84.4),
    ("teacher_size", "B5 student of B5", "top1", "v4", 85.1),
    ("teacher_size", "B5 student of B5", "top1", "v2", 85.0),
    ("teacher_size", "B6 student of B6", "top1", "v4", 85.9),
    ("teacher_size", "B6 student of B6", "top1", "v2", 85.6),
    ("teacher_size", "B7 student of B7", "top1", "v4", 86.4),
    ("teacher_size", "B7 student of B7", "top1", "v2", 85.9),
    ("teacher_size", "B3 student of L2", "top5", "v2", 96.9),
    ("teacher_size", "B1 student of L2", "top1", "timm", 81.388),
    ("robustness", "DPN-98", "imagenet_a_top1", "v4", 9.4),
    ("robustness", "ResNeXt-101 WSL", "imagenet_a_top1", "v1", 16.6),
    ("robustness", "NST L2", "imagenet_a_top5", "v4", 95.2),
    ("robustness", "NST L2 299px", "mce", "v4", 28.3),
    ("robustness", "NST L2 224px", "mce", "v1", 34.7),
    ("robustness", "EfficientNet-L2 224px", "mfr", "v4", 27.2),
    ("robustness", "NST L2 299px", "imagenet_p_top1", "v4", 86.4),
    ("robustness", "NST L2 eps=8", "fgsm_top1", "v4", 76.4),
    ("robustness", "EfficientNet-L2 eps=16", "fgsm_top1", "v4", 59.7),
    ("robustness", "NST L2 eps=16", "pgd_top1", "v4", 4.4),
    ("noise", "B5 supervised 1.3M", "top1", "v4", 83.3),
    ("noise", "B5 student 130M", "top1", "v4", 85.1),
    ("noise", "B5 student 130M", "top1", "v2", 84.9),
    ("noise", "B5 student without aug sd dropout 1.3M", "top1", "v4", 83.2),
    ("noise", "B5 student of noised teacher 130M", "top1", "v4", 84.4),
    ("iterations", "iteration 1", "top1", "v4", 87.6),
    ("iterations", "iteration 3", "unlabeled_ratio", "v4", 28),
    ("iterations", "last iteration of v1", "top1", "v1", 87.4),
    ("unlabeled_size", "B4 student of B4 1/64", "top1", "unknown", 83.3),
    ("soft_vs_hard", "B0 soft p=0.0", "top1", "v2", 77.52),
    ("soft_vs_hard", "B0 hard p=0.6", "top1", "v2", 77.34),
    ("student_size", "L2 student of B7", "top1", "v2", 87.2),
    ("student_size", "B3 student of B2", "top1", "v2", 82.0),
    ("balancing", "B2 student without balancing", "top1", "unknown", 80.6),
    ("joint_vs_finetune", "B0 pretraining only", "top1", "unknown", 72.6),
    ("batch_ratio", "L2 (87.0) 1:1", "top1", "v2", 86.7),
    ("batch_ratio", "L2 (87.4) 6:1", "top1", "v2", 87.9),
    ("warm_start", "B0 from teacher 140 epochs", "top1", "unknown", 77.7),
    ("architecture", "ResNet-50 student", "top5", "unknown", 94.3),
    ("svhn", "B0 supervised", "top1", "code", 97.9),
    ("svhn", "B0 supervised", "top1", "unknown", 98.1),
    ("unlabeled_source", "YFCC100M", "images_before_balancing", "unknown", 34),
    ("small_scale", "CIFAR-10 5000 labels RN20 teacher", "top1", "independent", 82.27),
    (
        "small_scale",
        "CIFAR-10 5000 labels RN38 student hard no noise",
        "top1",
        "independent",
        84.59,
    ),
    ("small_scale", "CIFAR-10 20% labels RN38 student soft", "top1", "independent", 89.78),
    ("small_scale", "MNIST 100 labels no noise", "top1_gain_lowest", "independent", -1.0),
    ("small_scale", "Food-11 3080 labels generation 5", "val_top1", "independent", 81.9),
    ("small_scale", "CUB-200 RN50 noisy student", "randaugmented_top1", "independent", 66.0),
]

# Every number known only from memory or a scrambled mirror: study, arm, metric.
FROM_MEMORY = {
    ("teacher_size", "L2 teacher", "top1"),
    ("unlabeled_size", "B4 supervised", "top1"),
    *(
        ("unlabeled_size", f"B4 student of B4 {part}", "top1")
        for part in ("1/128", "1/64", "1/32", "1/16", "1/4", "all")
    ),
    *(
        (study, f"B{size} {arm}", "top1")
        for study, arms in {
            "balancing": ("supervised", "student", "student without balancing"),
            "joint_vs_finetune": ("pretraining only", "pretraining then finetuning", "joint"),
        }.items()
        for arm, size in itertools.product(arms, range(4))
    ),
    *(("warm_start", f"B0 from teacher {n} epochs", "top1") for n in (35, 70, 140, 280)),
    ("warm_start", "B0 from scratch 350 epochs", "top1"),
    *(
        ("architecture", f"ResNet-50 {arm}", metric)
        for arm, metric in itertools.product(("supervised", "student"), ("top1", "top5"))
    ),
    ("svhn", "B0 supervised", "top1"),
    ("svhn", "B0 student", "top1"),
    ("unlabeled_source", "YFCC100M", "confidence_threshold"),
    ("unlabeled_source", "YFCC100M", "images_per_class"),
    ("unlabeled_source", "YFCC100M", "images_before_balancing"),
    ("unlabeled_source", "JFT", "images_before_balancing"),
}


@pytest.fixture(scope="module")
def table() -> list[paper.PaperRow]:
    return paper.rows()


def test_the_file_is_a_plain_table() -> None:
    with (folder("reports") / "paper.csv").open(newline="", encoding="utf-8") as file:
        header, *body = csv.reader(file, strict=True)
    assert header == COLUMNS == [field.name for field in dataclasses.fields(paper.PaperRow)]
    assert {len(line) for line in body} == {len(COLUMNS)}
    assert all(cell == cell.strip() and cell.isascii() for line in body for cell in line)
    assert {line[COLUMNS.index("verified")] for line in body} == {"true", "false"}


def test_studies_are_in_order_and_filter(table: list[paper.PaperRow]) -> None:
    assert [row.study for row in table] == sorted(row.study for row in table)
    assert {row.study for row in table} == STUDIES
    for study in STUDIES:
        assert paper.rows(study) == [row for row in table if row.study == study] != []
    assert paper.rows("no_such_study") == []


def test_every_row_says_where_it_was_read(table: list[paper.PaperRow]) -> None:
    assert all(row.arm and row.metric and row.unit and row.source for row in table)
    versions = {"v1", "v2", "v4", "code", "tpu", "timm", "independent", "unknown"}
    assert {row.version for row in table} == versions


def test_no_number_is_there_twice(table: list[paper.PaperRow]) -> None:
    keys = Counter((row.study, row.arm, row.metric, row.version, row.source) for row in table)
    assert [key for key, n in keys.items() if n > 1] == []


@pytest.mark.parametrize(("study", "arm", "metric", "version", "value"), GOLDEN)
def test_golden(study: str, arm: str, metric: str, version: str, value: float) -> None:
    found = {
        row.value
        for row in paper.rows(study)
        if (row.arm, row.metric, row.version) == (arm, metric, version)
    }
    assert found == {value}


def test_numbers_from_memory_are_marked_and_no_others(table: list[paper.PaperRow]) -> None:
    unread = [(row.study, row.arm, row.metric) for row in table if not row.verified]
    assert len(unread) == len(set(unread)) == 47
    assert set(unread) == FROM_MEMORY
    for row in table:
        from_memory = "from memory" in row.source or "scrambled" in row.source
        assert row.verified is not from_memory, row
    # The two numbers for SVHN in the code's README were read; the paper's own were not.
    assert [row.version for row in paper.rows("svhn") if row.verified] == ["code", "code"]


def test_reads_off_a_bitmap_say_how_rough_they_are() -> None:
    plot = paper.rows("soft_vs_hard")
    assert len(plot) == 21
    assert all("bitmap" in row.source and "about +-0.03" in row.note for row in plot)


def test_only_printed_dashes_are_blank(table: list[paper.PaperRow]) -> None:
    blank = {(row.arm, row.metric) for row in table if row.value is None}
    assert blank == {
        ("ResNeXt-101 Billion-scale", "top5"),
        ("ResNeXt-101 WSL 224px", "imagenet_c_top1"),
        ("ResNet-50 224px", "imagenet_p_top1"),
        ("Low Pass Filter Pooling 224px", "imagenet_p_top1"),
        ("ResNeXt-101 WSL 224px", "imagenet_p_top1"),
    }
    assert all("printed as -" in row.note for row in table if row.value is None)


def test_values_are_plausible(table: list[paper.PaperRow]) -> None:
    for row in table:
        low, high = ALLOWED[row.unit]
        assert row.value is None or (math.isfinite(row.value) and low <= row.value <= high), row
    both: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for row in table:
        if row.metric in ("top1", "top5") and row.value is not None:
            key = (row.study, row.arm, row.version, row.source)
            both.setdefault(key, {})[row.metric] = row.value
    pairs = [pair for pair in both.values() if len(pair) == 2]
    assert len(pairs) >= 40
    assert all(pair["top1"] < pair["top5"] for pair in pairs)


def test_numbers_that_two_tables_share_agree(table: list[paper.PaperRow]) -> None:
    value = {(r.study, r.arm, r.metric): r.value for r in table if r.version == "v4"}
    for shared, elsewhere in [
        (("key_results", "NST L2", "top1"), ("related_methods", "NST L2", "top1")),
        (("key_results", "NST L2", "top1"), ("iterations", "iteration 3", "top1")),
        (("key_results", "NST L2", "top1"), ("robustness", "NST L2 eps=0", "fgsm_top1")),
        (("key_results", "NST L2", "mce"), ("robustness", "NST L2 299px", "mce")),
        (("key_results", "NST L2", "mfr"), ("robustness", "NST L2 299px", "mfr")),
        (("related_methods", "EfficientNet-B7", "top1"), ("teacher_size", "B7 supervised", "top1")),
        (("teacher_size", "B5 supervised", "top1"), ("noise", "B5 supervised 130M", "top1")),
    ]:
        assert value[shared] == value[elsewhere] is not None


def test_that_runs_were_single_is_not_data(table: list[paper.PaperRow]) -> None:
    """Whoever shows the table says that the paper gives no error bars; no cell stands for it."""
    spread = ("std", "stderr", "sem", "ci_", "error_bar", "interval", "n_seeds", "n_runs")
    assert not any(word in row.metric for row in table for word in spread)
    cells = " ".join(
        " ".join(str(getattr(row, name)) for name in COLUMNS) for row in table
    ).casefold()
    assert not any(words in cells for words in ("single run", "error bar", "one seed", "nan"))
