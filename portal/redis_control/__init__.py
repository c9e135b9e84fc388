"""The control plane: what the console itself asks a Redis or Valkey server. One short connection per question.

    result = probe(EndpointParams(host="cache.internal", port=6379, password="…"))

Raises a ProbeError (errors.py), which says what is wrong and what to do. Never call it inside a transaction.
"""

from portal.redis_control.connect import EndpointParams, params_of
from portal.redis_control.errors import ProbeError
from portal.redis_control.probe import NodeInfo, ProbeResult, probe

__all__ = ["EndpointParams", "NodeInfo", "ProbeError", "ProbeResult", "params_of", "probe"]
