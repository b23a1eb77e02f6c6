"""What a study, a profile and a claim are, and what networks cost."""
