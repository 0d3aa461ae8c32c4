"""Growth and forecasts of pools: functions from the ``pools`` table, or any frame like it, to frames."""
