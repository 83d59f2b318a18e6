"""(edge) What a process does for its memory: looks for garbage less often, gives back what it no longer needs.

In: the budget of what requests hold. Decides nothing about requests.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc

from gemproxy.load.budget import Budget

M_MMAP_THRESHOLD, OWN_MAPPING = -3, 1 << 20  # malloc.h; bytes, well above the 256 KiB that asyncio reads into
M_TRIM_THRESHOLD, KEPT_AT_END = -1, 4 << 20  # bytes that stay at the end of the heap
WORTH_RETURNING = 16 << 20  # bytes left free


def spare_collections() -> None:
    """Take what is there for good out of the garbage collector's sight, and let it look less often.

    Measured: an eighth of the CPU of a small request went into looking at modules and routes again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def return_large_blocks() -> None:
    """Have the C library give the memory of large bodies back as soon as they are freed.

    glibc stops doing so for sizes up to the largest block it ever freed (mallopt(3)), and then its heap grows for
    hours: bodies come and go between small things that stay. Measured under faults: 6 MiB more after 50,000 requests,
    2 with this. The end of the heap would then be given back with every body, too, and be fetched again for the next:
    27 page faults, a quarter of what a request of 64 KiB costs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another C library
        mallopt(M_MMAP_THRESHOLD, OWN_MAPPING)
        mallopt(M_TRIM_THRESHOLD, KEPT_AT_END)


async def return_memory(budget: Budget) -> None:
    """Give back what large requests have left free, soon after they are over.

    A body and an answer arrive in pieces of 32 KiB, which leave holes between what stays: 130 MiB after a hundred
    frames of 8 MB. The C library gives those back only when it is told to; it takes some milliseconds.
    """
    if budget.peak - budget.held > WORTH_RETURNING:
        budget.peak = budget.held
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # another C library
            await asyncio.to_thread(trim, KEPT_AT_END)
