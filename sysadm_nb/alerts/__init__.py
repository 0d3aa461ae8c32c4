"""Alert rules: tried on the past, armed on the present, with one evaluator for both.

>>> import sysadm_nb as sa
>>> rules = sa.alerts.Rules()
>>> rules.add("nearly full", table="pools", when="capacity_pct > 80", for_="30min", severity="warning")
Rule 'nearly full': pools capacity_pct > 80 for 30min by server, pool → warning
"""

from .armed import Armed, arm
from .backtest import backtest
from .conditions import absent, forecast_within
from .evaluator import Evaluator
from .files import load, save
from .incidents import Change, Incident, incidents_frame
from .judge import evaluate, sweep
from .kept import recorded_incidents
from .notify import Notification
from .rule import Rule
from .rules import Rules
from .shipped import shipped

__all__ = [
    "Armed",
    "Change",
    "Evaluator",
    "Incident",
    "Notification",
    "Rule",
    "Rules",
    "absent",
    "arm",
    "backtest",
    "evaluate",
    "forecast_within",
    "incidents_frame",
    "load",
    "recorded_incidents",
    "save",
    "shipped",
    "sweep",
]
