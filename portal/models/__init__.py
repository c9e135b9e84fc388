"""The fleet: accounts with their members, instances with endpoint and nodes, and the audit."""

from portal.models.accounts import Account, Membership, UserProfile
from portal.models.audit import AuditEntry
from portal.models.instances import Endpoint, Instance, Node

__all__ = ["Account", "AuditEntry", "Endpoint", "Instance", "Membership", "Node", "UserProfile"]
