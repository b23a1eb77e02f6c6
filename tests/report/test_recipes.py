"""A page says what each arm is: what arms share once, and in what they differ."""

import pytest
from pages import analysis, filled

from ns_bench.report.blocks import Code, Details, Table
from ns_bench.report.sections import recipes

pytestmark = pytest.mark.slow


def test_arms_are_told_apart_by_what_differs(tmp_path) -> None:
    store = filled(tmp_path / "runs", "confidence_threshold", seeds=1)
    _, table, shared = recipes.blocks(analysis(store, "confidence_threshold", seeds=1))
    assert isinstance(table, Table) and isinstance(shared, Details)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["above 0.7"][1] == "pseudo.threshold = 0.7"
    students = [own for networks, own in rows.values() if networks == "micro-b0, then micro-b0"]
    assert len(students) > 3
    assert all(str(own).startswith("pseudo.threshold = ") for own in students)
    (code,) = shared.blocks
    assert isinstance(code, Code)
    text = code.text
    assert "data.labeled = 50" not in text, "at its default"
    assert "train.lr = " in text and "pseudo.threshold" not in text
