"""Which network addresses reach this machine alone."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Say whether an address reaches this machine only; of other names nothing is known."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
