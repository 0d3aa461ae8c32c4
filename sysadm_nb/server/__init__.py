"""Event servers: `serve` starts one, `Server` is its handle, `source` tells how to feed it."""

from sysadm_nb.server.core import EventServer
from sysadm_nb.server.handle import Server, close_all, serve
from sysadm_nb.server.limits import Limits
from sysadm_nb.server.source import BadRequest, Source

__all__ = ["BadRequest", "EventServer", "Limits", "Server", "Source", "close_all", "serve"]
