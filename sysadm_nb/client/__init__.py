"""One connection, and the session that keeps it alive: the async face of the library."""

from sysadm_nb.client.address import Address, parse_address
from sysadm_nb.client.certificates import InsecureWarning
from sysadm_nb.client.connection import Connection
from sysadm_nb.client.events import ReceivedEvent
from sysadm_nb.client.login import Login
from sysadm_nb.client.opening import connect_once, open_connection

__all__ = [
    "Address",
    "Connection",
    "InsecureWarning",
    "Login",
    "ReceivedEvent",
    "connect_once",
    "open_connection",
    "parse_address",
]
