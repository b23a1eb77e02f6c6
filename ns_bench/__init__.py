"""Which parts of self-training matter: the findings of Noisy Student (arXiv 1911.04252) as studies.

Importing this package imports neither torch nor timm: planning, listing and reporting stay quick.
"""

__version__ = "0.1.0"
