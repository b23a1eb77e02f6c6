"""Where runs are executed. Each way ends in `run_one`, which does one run of a store."""
