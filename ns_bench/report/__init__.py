"""From finished runs to tables, verdicts and figures: built from the stored results alone.

`python -m ns_bench.report` makes reports and the scorecard of all studies; nothing here trains or
imports torch.
"""
