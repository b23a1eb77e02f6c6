"""Tables for LaTeX: escaped, and compiled where there is a LaTeX."""

import re
import shutil
import subprocess

import pytest
from builders import present
from hypothesis import given
from hypothesis import strategies as st
from pages import analysis, filled, hostile

from ns_bench.report.blocks import Span, Table
from ns_bench.report.latex import escape, table, tables
from ns_bench.report.page import tables as tables_of

TEX = next(filter(None, map(shutil.which, ("pdflatex", "tectonic"))), None)

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
\input{tables.tex}
\end{document}
"""
NASTY = (
    "\\input{x} {[ $a_b^c$ & 100 % # ~ <b> | \" ' ` - \u2013 \u00b1 \u00e9 \u00df \u4e2d \U0001f600"
)
COMMANDS = re.compile(r"\\(?:text\w+\{\}|[{}$&%#_])|\{[\[\]]\}|\$(?:-|\\pm|\\times|\\infty)\$")


@given(st.text(max_size=40))
def test_nothing_of_a_name_is_a_command(name):
    rest = COMMANDS.sub("", escape(name))
    assert not set(rest) - {"~"} & set('\\{}$&%#_^<>|"[]`\u2013')
    assert rest.isprintable() and all(c <= "\xff" for c in rest)


def test_known_names():
    assert escape("a_b & 5 % [1]") == "a\\_b \\& 5 \\% {[}1{]}"
    assert escape("-0.58") == "$-$0.58" and escape("[-0.58, +0.85]") == "{[}$-$0.58, +0.85{]}"
    assert escape("[-0.58, +\u221e]") == "{[}$-$0.58, +$\\infty${]}"
    assert escape("-\u221e") == "$-$$\\infty$"
    assert escape("micro-b0") == "micro-b0" and escape("a - b") == "a - b"
    assert escape("\\end{document}") == "\\textbackslash{}end\\{document\\}"
    assert escape("\u4e2d") == "{[}U+4E2D{]}"


def test_a_table_has_a_row_a_line():
    said = table(Table("T_1", ["arm", "n"], [["a & b", "8/8"], [Span("x", bold=True), "7/8"]]))
    assert "\\caption{T\\_1}" in said and "{@{}lr@{}}" in said
    body = said.split("\\midrule")[1].split("\\bottomrule")[0]
    assert body.split("\\\\\n")[:2] == ["\n    a \\& b & 8/8 ", "    \\textbf{x} & 7/8 "]
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert said.count(rule) == 1


def test_the_numbers_are_the_reports(tmp_path):
    one = analysis(filled(tmp_path, "teacher_size"), "teacher_size")
    said = tables(one.title, tables_of(one))
    assert said.count("\\begin{tabular}") == 2 and "\\textbf{reproduced}" in said
    for arm in one.arms:
        assert f"{present(arm.interval).mean:.2f}" in said and arm.name in said


@pytest.mark.skipif(TEX is None, reason="neither pdflatex nor tectonic on this machine")
@pytest.mark.parametrize("study", ["teacher_size", "noise", "hostile"])
def test_it_compiles_as_it_is(tmp_path, study):
    chosen = hostile() if study == "hostile" else study
    one = analysis(filled(tmp_path / "runs", chosen), chosen)
    nasty = (
        []
        if study != "hostile"
        else [Table(NASTY, [NASTY, "n"], [[NASTY, "-1"], [Span(NASTY[:20], bold=True), "[2"]])]
    )
    (tmp_path / "tables.tex").write_text(tables(NASTY, [*tables_of(one), *nasty]), "utf-8")
    (tmp_path / "paper.tex").write_text(DOCUMENT)
    tex = present(TEX)
    more = ["-interaction=nonstopmode", "-halt-on-error"] if tex.endswith("pdflatex") else []
    done = subprocess.run(
        [tex, *more, "paper.tex"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
    overfull = [float(w) for w in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert study == "hostile" or not overfull  # words without a space cannot be broken
