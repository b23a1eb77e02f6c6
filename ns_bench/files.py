"""Where the top-level rooms (studies/, reports/, slurm/) are: beside a checkout, inside a wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return the folder `name`: shipped in an installed wheel, else at the checkout's top level."""
    shipped = _PACKAGE / "_share" / name
    return shipped if shipped.is_dir() else _PACKAGE.parent / name
