"""When a run stops before its allocation's time is over, so that no work is lost. Pure."""

from __future__ import annotations

_MARGIN_S = 10.0  # for the last step, the last checkpoint's end, and the ranks' farewell


def should_stop(*, left_s: float, due: bool, interval_s: float, saving_s: float) -> bool:
    """Whether a run should stop with a checkpoint now.

    Args:
        left_s: seconds until the allocation ends; infinite where there is no limit.
        due: whether a checkpoint is due now.
        interval_s: seconds since the last checkpoint: the next is so far away, too.
        saving_s: the longest that a checkpoint took from its beginning until it was on the disk.
    """
    margin = _MARGIN_S + 2 * saving_s
    return left_s < margin or (due and left_s < interval_s + margin)
