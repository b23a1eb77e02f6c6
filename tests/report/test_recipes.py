"""A page says what each arm is: what arms share once, and in what they differ."""

import pytest
from pages import analysis, filled

from ns_bench.report.blocks import Code, Details, Items, Table
from ns_bench.report.sections import recipes

pytestmark = pytest.mark.slow


def test_arms_are_told_apart_by_what_differs(tmp_path) -> None:
    store = filled(tmp_path / "runs", "confidence_threshold", seeds=1)
    _, facts, table, shared = recipes.blocks(analysis(store, "confidence_threshold", seeds=1))
    assert isinstance(facts, Items)
    assert facts.items[0] == (
        "Data: digits, images of 8 x 8 pixels in 10 classes; 50 labels, 100 validation and 500 "
        "test rows, 1,147 images in the pool."
    )
    assert str(facts.items[1]).startswith("Runs made 20")
    assert isinstance(table, Table) and isinstance(shared, Details)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["above 0.7"][1] == "pseudo.threshold = 0.7"
    network = "micro-b0 (44,024 parameters)"
    students = [own for names, own in rows.values() if names == f"{network}, then {network}"]
    assert len(students) > 3
    assert all(str(own).startswith("pseudo.threshold = ") for own in students)
    (code,) = shared.blocks
    assert isinstance(code, Code)
    text = code.text
    assert "data.labeled = 50" not in text, "at its default"
    assert "train.lr = " in text and "pseudo.threshold" not in text
