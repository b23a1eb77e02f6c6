"""The sections of a study's page, each a list of blocks made of the analysis alone."""
