"""Small plots of curves: what of the tables they draw, and that their texts have room."""

from dataclasses import replace

import numpy as np
import pytest
from builders import present
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from pages import analysis, filled

from ns_bench.design.definition import load_study
from ns_bench.design.profile import load_profile
from ns_bench.files import folder
from ns_bench.report import blocks as b
from ns_bench.report import multiples
from ns_bench.report.sections import labels
from ns_bench.verdicts.sources import from_tables


@pytest.fixture(scope="module")
def robustness():
    published = folder("reports") / "published"
    return present(from_tables(load_study("robustness"), load_profile("digits"), published))


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    return analysis(
        filled(tmp_path_factory.mktemp("store"), "teacher_size", seeds=2), "teacher_size"
    )


def test_a_severity_is_drawn_as_the_mean_over_seeds_and_clean_images_are_0(robustness):
    curves = present(multiples.severities(robustness))
    x, mean, low, high = curves.each["noisy student"]
    assert list(x) == [0, 1, 2, 3, 4, 5]
    assert mean[0] == pytest.approx(robustness.top1["noisy student"].mean())
    fifth = robustness.values("corruption_severity_5")["noisy student"]
    assert mean[5] == pytest.approx(fifth.mean()) and low[5] < mean[5] < high[5]
    assert curves.of == "supervised"
    assert np.array_equal(curves.dashed[1], curves.each["supervised"][1])


def test_what_was_not_measured_or_stored_is_not_drawn(made_up):
    assert set(multiples.found(made_up)) == {"curves", "calibration"}
    bare = replace(
        made_up,
        runs=made_up.runs.drop(columns=["pseudo_per_tenth"]),
        curves=made_up.curves.drop(columns=["validation_top1"]),
    )
    assert multiples.found(bare) == {}
    assert multiples.blocks(bare, "curves", "") == multiples.blocks(bare, "calibration", "") == []


def test_calibration_is_the_share_of_right_labels_where_there_are_enough(made_up):
    [(name, (x, right, _, _))] = present(multiples.calibration(made_up)).each.items()
    assert name == "small teacher, medium teacher, large teacher"
    # 10 of 1,147 labels between 0.2 and 0.3 are less than 1 %
    assert list(x) == [35, 45, 55, 65, 75, 85, 95]
    assert right[0] == pytest.approx(35) and right[-1] == pytest.approx(100 * 400 / 417)


def test_the_numbers_of_the_calibration_are_folded_below_it(made_up):
    *_, details = labels.blocks(made_up)
    assert isinstance(details, b.Details) and isinstance(table := details.blocks[0], b.Table)
    assert table.rows[0] == ["0.0 to 0.1", "–"]  # noqa: RUF001
    assert table.rows[2] == ["0.2 to 0.3", "20 % of 20"]  # of two seeds; all arms have the same


def test_learning_curves_share_a_scale_on_which_late_steps_differ(robustness):
    curves = present(multiples.learning(robustness))
    late = [mean[x >= x[-1] / 4] for x, mean, _, _ in curves.each.values()]
    low, high = curves.limits
    assert 0 <= low < np.concatenate(late).min() and np.concatenate(late).max() < high <= 100


@pytest.mark.parametrize("count", [1, 2, 5, 14])
def test_no_title_covers_another_or_leaves_the_figure(made_up, count):
    curves = present(multiples.learning(made_up))
    one = next(iter(curves.each.values()))
    names = [f"a quite long name of an arm, $x$ {i}, knowledge distillation" for i in range(count)]
    many = replace(curves, each=dict.fromkeys(names, one), of=names[0])
    wide = multiples.draw(many, "a title", 11.0)
    small = [multiples.draw_one(many, i) for i in range(count)]
    for drawn in [wide, *small]:
        FigureCanvasAgg(drawn).draw()
        shown = [axes for axes in drawn.axes if axes.get_visible()]
        named = [text for text in drawn.findobj(Text) if "quite long" in text.get_text()]
        titles = [text for text in named if "dashed" not in text.get_text()]
        boxes = [title.get_window_extent() for title in titles]
        assert len(shown) == len(boxes) == (count if drawn is wide else 1)
        assert all(box.x0 >= 0 and box.x1 <= drawn.bbox.x1 for box in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    # plots that stand beside each other have their axes at one height
    assert len({str(drawn.axes[0].get_position()) for drawn in small}) == 1
