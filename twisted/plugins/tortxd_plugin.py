"""Tells ``twistd`` about ``tortxd``."""

from twisted.application.service import ServiceMaker

tortxd = ServiceMaker(
    "tortxd",
    "tortxd.tap",
    "An HTTP gateway to Tor that launches, supervises and shows its own Tor.",
    "tortxd",
)
