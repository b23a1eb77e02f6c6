"""From finished runs to tables, verdicts and figures: built from the stored results alone."""

from ns_bench.report.analysis import Analysis, analyse
from ns_bench.report.page import write

__all__ = ["Analysis", "analyse", "write"]
