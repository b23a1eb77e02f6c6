"""Runs as SLURM jobs, through submitit."""
