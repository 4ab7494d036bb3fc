"""Compression of gradients: which codec, which error feedback, from when on."""

from mpimlsys.compress.codec import DENSE, Codec, parse
from mpimlsys.compress.compression import (
    FEEDBACKS,
    Compression,
    Feedback,
    after_warmup,
    chain,
    error_feedback,
    falling_ratio,
    masked,
    of,
)
from mpimlsys.compress.layout import Layout, layout

__all__ = [
    "DENSE",
    "FEEDBACKS",
    "Codec",
    "Compression",
    "Feedback",
    "Layout",
    "after_warmup",
    "chain",
    "error_feedback",
    "falling_ratio",
    "layout",
    "masked",
    "of",
    "parse",
]
