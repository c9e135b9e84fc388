"""The replication engine: one link from a source to a target, without Django and without redis-py.

The doors are `link.run_link`, `verify.verify`, `endpoint.Endpoint` and the protocol in `ports.py`; everything
else is internal to the room.
"""
