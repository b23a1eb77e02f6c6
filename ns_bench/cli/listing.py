"""What `--list` shows: the studies and profiles there are."""

from ns_bench.design.definition import load_study, study_names
from ns_bench.design.profile import profile_names, read_profile


def list_studies() -> int:
    """Print every study with its question, every profile with its ladder; returns exit code 0."""
    print("studies:")
    for name in study_names():
        print(f"  {name:<20} {load_study(name).question}")
    print("profiles:")
    for name in profile_names():
        profile = read_profile(name)
        ladder = ", ".join(f"{rung} = {model}" for rung, model in profile.ladder.items())
        print(f"  {name:<20} {profile.title}; {profile.seeds} seeds; {ladder}")
    return 0
