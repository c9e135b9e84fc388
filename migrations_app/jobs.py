"""What the clusters run. A job is a few lines around services; the row in the database decides, not the message."""

from __future__ import annotations

import os
import socket
import time
from typing import Any, Final

import structlog
from django.dispatch import receiver
from django_q.brokers import get_broker
from django_q.signals import pre_execute

import events.jobs
from migrations_app import drain
from migrations_app.runner import inspections as inspection_runner
from migrations_app.runner import kinds as kinds  # registers them
from migrations_app.runner import link as link_runner
from migrations_app.runner import reachability
from migrations_app.runner.sides import own_address
from migrations_app.services import (
    alerts,
    inspections,
    links,
    recovery,
    releases,
    repairs,
    samples,
    sharing,
    snapshots,
    verifications,
)
from portal.services import deliveries

log = structlog.get_logger(__name__)

SWEEP_SECONDS: Final = 600.0  # between two looks for uploads that nobody uses
THIN_SECONDS: Final = 10.0  # between two looks for samples that are old enough

_thinned_at = float("-inf")
_swept_at = float("-inf")
_message_id: Any = None  # of the message that this worker works on


@receiver(pre_execute, dispatch_uid="migrations_app.jobs")
def _remember_message(sender: Any, func: Any, task: dict[str, Any], **kwargs: Any) -> None:
    global _message_id
    _message_id = task.get("ack_id")


def run_link(link_id: int) -> str:
    """Run a link for as long as it is wanted, if nobody else does. What it returns is for the log of the cluster."""
    if drain.requested():
        return "shutting down: the next tick asks another worker"
    if not sharing.enforce(links.task_of(link_id)):
        return "paused: a role of another account does not let the task use a side any more"
    lease = links.acquire_lease(link_id, drain.owner())
    if lease is None:
        return "nothing to do: the link has a worker, or is not wanted to run"
    if _message_id is not None:
        # The bell has rung. Kept until the link ends, the message would be handed out again and again meanwhile.
        get_broker(links.CLUSTER).acknowledge(_message_id)
    link_runner.run(lease)
    return "ended"


def run_inspection(inspection_id: int) -> str:
    """Carry an inspection out, if nobody else does."""
    if drain.requested():
        return "shutting down: the next tick asks another worker"
    if not sharing.enforce(inspections.task_of(inspection_id)):
        return "cancelled: a role of another account does not let the task use a side any more"
    lease = inspections.acquire(inspection_id, drain.owner(), host=socket.gethostname(), ip=own_address())
    if lease is None:
        return "nothing to do: the inspection has a worker, or has ended"
    if _message_id is not None:
        get_broker(inspections.CLUSTER).acknowledge(_message_id)
    inspection_runner.run(lease)
    return "ended"


def try_resume(task_id: int) -> str:
    """Resume a failed task, if what made it fail has passed."""
    task = recovery.candidate(task_id)
    if task is None:
        return "nothing to do: the task does not wait any more"
    if not sharing.enforce(task_id):
        return "not yet: a role of another account does not let the task use a side"
    if trouble := reachability.trouble(task):
        return f"not yet: {trouble}"
    return "resumed" if recovery.resume(task) else "not resumed"


def tick_default(cluster: str) -> None:
    """What has to be looked after every few seconds in each cluster `default`: any machine may do any of it, twice as well."""
    sharing.enforce_all()
    for inspection_id in inspections.unsettled():
        inspections.settle(inspection_id)
    for inspection_id in inspections.waiting():
        inspections.ring_again(inspection_id)
    for task_id in verifications.due_tasks():
        verifications.verify_by_itself(task_id)
    for task_id in releases.due():
        releases.ask_again(task_id)
    for task_id, moment in recovery.due():
        if recovery.claim(task_id, moment):
            recovery.ring(task_id)
    for task_id in repairs.due():
        repairs.restore_due(task_id)
    alerts.look()
    events.jobs.tick()
    deliveries.ring_due()
    _thin_samples()
    _sweep_uploads()


def _thin_samples() -> None:
    global _thinned_at
    if time.monotonic() - _thinned_at >= THIN_SECONDS:
        _thinned_at = time.monotonic()
        samples.thin()


def _sweep_uploads() -> None:
    global _swept_at
    if time.monotonic() - _swept_at >= SWEEP_SECONDS:
        _swept_at = time.monotonic()
        snapshots.sweep()


def tick(cluster: str) -> None:
    """Ask for workers for the links that nobody runs. Called every few seconds in each replication cluster.

    Each machine that can run links looks by itself, so no single process has to be alive for a link to go on.
    """
    for link in links.held_by_cluster(cluster):
        if not _is_alive(link.owner):
            log.warning("link.worker_died", link=link.name, owner=link.owner)
            links.expire_lease(link.pk, link.epoch)
    for link_id in links.unsettled():
        links.settle(link_id)
    waiting = links.waiting()
    if not waiting:
        return
    # Messages that no worker has fetched yet (all are busy) will ring for as many links.
    for link_id in waiting[: max(0, len(waiting) - get_broker(links.CLUSTER).queue_size())]:
        links.ring_again(link_id)


def _is_alive(owner: str) -> bool:
    """Whether the process of an owner of this very cluster, and so of this machine, still exists."""
    pid = owner.split(":")[-2]
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        return True
    return True
