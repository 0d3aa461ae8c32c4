"""Pools by hand, for the trends' tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

GB = 1e9


def pool(
    alloc: Any, size: Any = 1000 * GB, every: str = "1D", start: str = "2026-01-05", name: str = "tank"
) -> pd.DataFrame:
    """One pool's samples at equal steps of time."""
    alloc = np.asarray(alloc, dtype=float)
    size = np.broadcast_to(np.asarray(size, dtype=float), alloc.shape)
    return pd.DataFrame(
        {
            "time": pd.date_range(start, periods=len(alloc), freq=every, tz="UTC").as_unit("us"),
            "server": "nas",
            "pool": name,
            "size_bytes": size,
            "alloc_bytes": alloc,
            "free_bytes": size - alloc,
        }
    )


@pytest.fixture
def make() -> Callable[..., pd.DataFrame]:
    return pool
