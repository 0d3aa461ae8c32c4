"""Append-only tables of what servers said, their schema, and the jobs' state machine."""

from sysadm_nb.tables.jobview import JobView
from sysadm_nb.tables.schema import SCHEMA
from sysadm_nb.tables.tables import Tables
from sysadm_nb.tables.updates import job_updates

__all__ = ["SCHEMA", "JobView", "Tables", "job_updates"]
