"""From finished runs to verdicts: the tidy table, intervals, tests. Knows nothing of pages."""
