"""Alert rules: tried on the past, armed on the present, with one evaluator for both.

>>> import sysadm_nb as sa
>>> rules = sa.alerts.Rules()
>>> rules.add("nearly full", table="pools", when="capacity_pct > 80", for_="30min", severity="warning")
Rule 'nearly full': pools capacity_pct > 80 for 30min by server, pool → warning
"""

from .evaluator import Evaluator
from .incidents import Change, Incident, incidents_frame
from .rules import Rule, Rules, absent, forecast_within

__all__ = [
    "Change",
    "Evaluator",
    "Incident",
    "Rule",
    "Rules",
    "absent",
    "forecast_within",
    "incidents_frame",
]
