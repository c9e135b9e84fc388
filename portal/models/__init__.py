"""The fleet: accounts with their members, instances with endpoint and nodes, roles, contacts and messages, and the audit."""

from portal.models.accounts import Account, Membership, UserProfile
from portal.models.audit import AuditEntry
from portal.models.instances import ConnectionFields, ConnectionTemplate, Endpoint, Instance, Node
from portal.models.notifications import Channel, Contact, Delivery, InstanceContact, Notification
from portal.models.roles import AccessRole, RoleCoverage
from portal.models.tokens import ApiToken, IdempotentRequest, SavedView
from portal.models.windows import MaintenanceWindow

__all__ = [
    "AccessRole",
    "Account",
    "ApiToken",
    "AuditEntry",
    "Channel",
    "ConnectionFields",
    "ConnectionTemplate",
    "Contact",
    "Delivery",
    "Endpoint",
    "IdempotentRequest",
    "Instance",
    "InstanceContact",
    "MaintenanceWindow",
    "Membership",
    "Node",
    "Notification",
    "RoleCoverage",
    "SavedView",
    "UserProfile",
]
