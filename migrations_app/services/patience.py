"""Short writes that wait for their turn (portal/patience.py)."""

from portal.patience import patient

__all__ = ["patient"]
