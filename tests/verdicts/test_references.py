"""Published results of others: what the table holds, and that reports mark it as another's."""

from dataclasses import replace

import pandas as pd
import pytest

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile, profile_names
from ns_bench.report.page import markdown
from ns_bench.verdicts.analysis import analyse
from ns_bench.verdicts.references import references

KNOWN = {  # typed by hand from the sources
    ("cifar10", 250, "FixMatch"): (95.03, 0.05),
    ("cifar10", 4000, "supervised"): (84.49, 0.18),
    ("cifar10", 4000, "Curriculum Labeling"): (94.91, None),
    ("cifar10", 50000, "supervised"): (95.42, None),
    ("cifar100", 10000, "Mean Teacher"): (60.95, 0.12),
    ("svhn", 1000, "pseudo-label"): (90.67, 0.58),
    ("imagenet", 128117, "Curriculum Labeling"): (68.87, None),
    ("fashion", 10, "Laplace"): (18.5, 7.4),
    ("fashion", 1600, "Poisson"): (80.7, 0.5),
}


def test_rows_are_those_of_their_sources():
    rows = [row for data in sorted({key[0] for key in KNOWN}) for row in references(data)]
    found = {(row.data, row.labels, row.method): (row.accuracy, row.spread) for row in rows}
    assert len(found) == len(rows) == 40
    assert {key: found[key] for key in KNOWN} == KNOWN
    assert all(row.source and row.differs and 0 < row.accuracy < 100 for row in rows)
    assert [row.labels for row in references("fashion")] == sorted(
        row.labels for row in references("fashion")
    )
    assert references("digits") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", profile_names())
def test_reports_mark_them_as_another_network_and_split(name):
    profile = load_profile(name)
    study = load_study("teacher_size")
    design = replace(study.design(profile), claims=[])
    done = {"run": "x", "state": "done", "model": "some", "test_top1": 80.0}
    runs = pd.DataFrame([{"arm": design.arms[0].name, "seed": 0, **done}])
    page = markdown(analyse(study, profile, design, runs, pd.DataFrame(), 1))
    rows = references(profile.base("data.name"))
    assert ("## Published by others" in page) == bool(rows)
    assert ("Another network and another split in every row" in page) == bool(rows)
    for row in rows:
        assert f"{row.accuracy:.2f}" in page and row.method in page
