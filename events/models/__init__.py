"""O&M events: what is announced, of which type, who may be disturbed when, and what became of it."""

from events.models.bulk import BulkChange, BulkRow
from events.models.catalogue import EventType
from events.models.events import Campaign, Event, EventQuerySet
from events.models.links import CalendarFeed, LinkUse, RequestCount
from events.models.occasions import Occasion
from events.models.planning import Blackout, RegionLimit
from events.models.runs import EventLogEntry, EventRun, EventStage

__all__ = [
    "Blackout",
    "BulkChange",
    "BulkRow",
    "CalendarFeed",
    "Campaign",
    "Event",
    "EventLogEntry",
    "EventQuerySet",
    "EventRun",
    "EventStage",
    "EventType",
    "LinkUse",
    "Occasion",
    "RegionLimit",
    "RequestCount",
]
