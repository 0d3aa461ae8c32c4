"""The life-preserver source: snapshots and replications of this machine, whichever tool makes them."""

from sysadm_nb.server.life_preserver.source import LifePreserver

__all__ = ["LifePreserver"]
