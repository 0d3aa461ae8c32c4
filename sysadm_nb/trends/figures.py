"""A pool's history and forecast as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sysadm_nb.errors import InputError
from sysadm_nb.wire import format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(
    forecast: pd.DataFrame,
    ax: Axes | None = None,
    pools: pd.DataFrame | None = None,
    limit_pct: float = 80,
) -> Axes:
    """Draw forecasts with their intervals.

    Parameters
    ----------
    forecast : pandas.DataFrame
        From ``forecast_path``: curves with their bands and the limit, a colour for each pool. From
        ``forecast``: when each pool reaches its limit, a line a pool, the most urgent on top.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the current axes.
    pools : pandas.DataFrame, optional
        The samples that the curves come from; gaps are left open.
    limit_pct : float
        The limit to draw beside curves, percent of each pool's size.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        matplotlib is missing (``pip install "sysadm-nb[lab]"``), or the table is neither.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> import numpy as np, pandas as pd
    >>> from sysadm_nb import trends
    >>> pools = pd.DataFrame({
    ...     "time": pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC"),
    ...     "server": "nas", "pool": "tank",
    ...     "size_bytes": 1000e9, "alloc_bytes": 500e9 + 4e9 * np.arange(60),
    ... })
    >>> trends.plot(trends.forecast_path(pools), pools=pools).get_ylabel()
    'allocated'
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.ticker import FuncFormatter
    except ImportError as error:
        raise InputError('Plots need matplotlib: pip install "sysadm-nb[lab]".') from error
    path = forecast
    kind = (
        ("date", "date_lower", "date_upper")
        if "date" in path.columns
        else ("time", "alloc_lower", "alloc_upper")
    )
    for name in kind:
        if name not in path.columns:
            raise InputError(
                f"The table has no column {name!r}: draw what trends.forecast or forecast_path returns."
            )
    ax = plt.gca() if ax is None else ax
    by = list(path.columns[: list(path.columns).index("time")])
    if "date" in path.columns:
        return _calendar(path, by, ax)
    several = len(path[by].drop_duplicates()) > 1
    for key, curve in path.groupby(by, observed=True, sort=False):
        label = "/".join(str(part) for part in key)
        (line,) = ax.plot(curve["time"], curve["alloc_bytes"], linestyle="--", label=f"{label} forecast")
        color = line.get_color()
        ax.fill_between(
            curve["time"], curve["alloc_lower"], curve["alloc_upper"], color=color, alpha=0.2, linewidth=0
        )
        if pools is not None:
            chosen = np.logical_and.reduce(
                [pools[name] == part for name, part in zip(by, key, strict=True)], axis=0
            )
            samples = with_gaps(pools.loc[chosen, ["time", "alloc_bytes"]])
            ax.plot(samples["time"], samples["alloc_bytes"], color=color, label=label)
        limit = float(curve["size_bytes"].iloc[0]) * limit_pct / 100
        if np.isfinite(limit):
            edge = color if several else "tab:red"
            ax.axhline(limit, color=edge, linestyle=":", label=f"{limit_pct:g} % of {label}")
    ax.yaxis.set_major_locator(_binary_locator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_size(value) if value > 0 else "0"))
    ax.set_ylabel("allocated")
    ax.margins(x=0)
    plt.setp(ax.get_xticklabels(), rotation=30, ha="right")
    ax.legend()
    return ax


def _calendar(table: pd.DataFrame, by: list[str], ax: Axes) -> Axes:
    """When each pool reaches its limit: a point, and a line from the earliest to the latest date."""
    labels = []
    for number, row in enumerate(table.to_dict("records")):
        labels.append("/".join(str(row[name]) for name in by))
        earliest, date, latest = row["date_lower"], row["date"], row["date_upper"]
        known = [when for when in (earliest, date, latest) if not pd.isna(when)]
        if not known:
            ax.annotate(
                row["reason"],
                (0.01, number),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize="small",
            )
            continue
        ax.plot([known[0], known[-1]], [number, number], color="tab:blue", linewidth=4, alpha=0.35)
        if pd.isna(latest):  # open to the right: it may take longer than was looked ahead
            ax.plot([known[-1]], [number], marker=">", color="tab:blue", alpha=0.5)
        if not pd.isna(date):
            ax.plot([date], [number], marker="o", color="tab:blue")
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_xlabel(f"{table['limit_pct'].iloc[0]:g} % full" if len(table) else "")
    ax.grid(axis="x", alpha=0.3)
    return ax


def with_gaps(samples: pd.DataFrame) -> pd.DataFrame:
    """Samples in order of time, with an empty row in each gap, so that no line is drawn across it.

    A gap is a pause of more than 5 times the usual one.
    """
    samples = samples.dropna(subset=["time"]).sort_values("time")
    pause = samples["time"].diff()
    usual = pause.median()
    if pd.isna(usual):
        return samples
    after = samples[pause > 5 * usual]
    empty = after.assign(time=after["time"] - usual / 2, alloc_bytes=np.nan)
    return pd.concat([samples, empty]).sort_values("time", kind="stable", ignore_index=True)


def _binary_locator() -> Any:
    """Ticks at round numbers of the unit the axis is in: 1, 2 or 5 of GiB, not of 10^9 bytes."""
    from matplotlib.ticker import Locator, MaxNLocator

    class BinaryLocator(Locator):
        def __call__(self) -> Any:
            low, high = self.axis.get_view_interval()  # type: ignore[union-attr]
            return self.tick_values(float(low), float(high))

        def tick_values(self, vmin: float, vmax: float) -> Any:
            unit = 1024.0 ** np.floor(np.log2(max(abs(vmin), abs(vmax), 1)) / 10)
            return (
                np.asarray(
                    MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(vmin / unit, vmax / unit)
                )
                * unit
            )

    return BinaryLocator()
