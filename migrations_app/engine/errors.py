"""Every way in which a link can fail, as types.

Each error has an `id` (stable, for programs and tests), a sentence for the person who reads the task (`message`),
what to do next (`advice`) and whether trying again can help (`retryable`). A retryable error is tried again within the
retry time of the link; any other stops it at once.
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of all errors of the engine; `str(error)` is the sentence for the person."""

    id = "engine.error"
    advice = "Read the log of the task; nothing was applied after this point."
    retryable = False

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if advice is not None:
            self.advice = advice


class UsageError(EngineError):
    """What was asked for cannot be done: a bad URL, database or option. Nothing was connected."""

    id = "engine.usage"
    advice = "Correct the setting and start again; nothing was changed."


# --- reaching a server ------------------------------------------------------------------------------------------


class ConnectError(EngineError):
    """No connection could be made, or an established one ended. Trying again may help."""

    id = "connection.failed"
    advice = "Check that the server runs and that its address and port can be reached from this machine."
    retryable = True


class HostUnknown(ConnectError):
    id = "connection.host_unknown"
    advice = "Check the spelling of the host name and the name service of this machine."


class AddressNotAllowed(EngineError):
    """By the policy of who runs the engine; the name may have been moved since it was entered."""

    id = "connection.address_not_allowed"
    advice = "Use a private address or a tunnel, or let an administrator add the network to ALLOWED_NETWORKS."


class ConnectionRefused(ConnectError):
    id = "connection.refused"
    advice = (
        "Check the port, that the server runs, and that a firewall or `bind` does not exclude this machine."
    )


class ConnectionTimeout(ConnectError):
    id = "connection.timeout"
    advice = "Check firewalls and security groups between this machine and the server."


class ConnectionLost(ConnectError):
    id = "connection.lost"
    advice = "The link goes on by itself where it stood as soon as the server can be reached again."


class SentinelsUnreachable(ConnectError):
    id = "sentinel.unreachable"
    advice = (
        "Check that the sentinels run and that their addresses and ports can be reached from this machine."
    )


class UnknownMaster(EngineError):
    """The sentinels watch no master of this name."""

    id = "sentinel.unknown_master"
    advice = "Check the name of the master (SENTINEL MASTERS lists them), and that these are its sentinels."


class NotTheMaster(ConnectError):
    """Who was asked for the master named a server that is none (any more): a failover is under way."""

    id = "server.not_master"
    advice = "The link asks again within the retry time: a failover takes some seconds."


class ClusterDown(ConnectError):
    """A cluster that just now has no owner for some slots, or no node that can be reached."""

    id = "cluster.down"
    advice = "Check the nodes of the cluster (CLUSTER INFO, CLUSTER NODES); the link asks again within the retry time."


class ClusterIncomplete(EngineError):
    """A cluster as the source whose slots are not all served when the link starts."""

    id = "source.cluster_incomplete"
    advice = "Repair the cluster (CLUSTER INFO, redis-cli --cluster check) and start again."


class SlotsMoved(EngineError):
    """Slots of the source went from one master to another, whose streams are not in step."""

    id = "source.slots_moved"
    advice = (
        "Finish the resharding, then start a full synchronization (--allow-full-resync): what the masters did with the moved keys "
        "cannot be put in order from their streams."
    )


class SourceIsCluster(EngineError):
    """Answered by running one link for each of its masters."""

    id = "source.cluster"
    advice = "Give the address of any of its nodes: all masters are found."


class ShardAnew(ConnectError):
    """A shard of the source has to be copied again from its beginning; the other ones go on."""

    id = "source.shard_anew"
    advice = "Nothing to do: only the keys of this shard's slots are replaced."


class SiblingFailed(EngineError):
    """The link of another shard has failed; the links of a cluster end together."""

    id = "link.sibling_failed"


class TlsError(EngineError):
    id = "connection.tls"
    advice = "Check that the port speaks TLS, the certificate's name and the authority that signed it."


class NotTls(TlsError):
    id = "connection.not_tls"
    advice = "The port does not speak TLS: use redis:// or the server's TLS port."


class TlsInterrupted(NotTls):
    """The handshake ended or was not answered: a port without TLS, or a server or network that failed just then."""

    retryable = True


class NotRedis(EngineError):
    id = "connection.not_redis"
    advice = "The port answers, but not as Redis or Valkey does: check the port, and whether it expects TLS."


class AuthError(EngineError):
    id = "auth.refused"
    advice = "Check user name and password of this side."


class PermissionDenied(EngineError):
    id = "auth.permission"
    advice = "Grant the user this command (ACL SETUSER), or use a user that has it."


class ServerLoading(ConnectError):
    id = "server.loading"
    advice = "The server is still loading its data; the link waits for it."


# --- the source -------------------------------------------------------------------------------------------------


class SourceRefused(EngineError):
    """The source answered PSYNC with an error that does not pass by itself."""

    id = "source.psync_refused"
    advice = (
        "Enable PSYNC on the source (rename-command, ACL +psync +replconf) and start again; where that cannot be had, SYNC may be "
        "allowed (--method sync), and a key scan needs neither (--method scan)."
    )


class SourceNotReady(ConnectError):
    """The source cannot serve replicas just now (NOMASTERLINK, a save under way ...)."""

    id = "source.not_ready"
    advice = "The link tries again within the retry time."


class FullResyncNeeded(EngineError):
    """The source no longer has the changes that the link needs, and the task does not allow a full phase."""

    id = "source.full_resync_needed"
    advice = "Raise repl-backlog-size on the source, then start a full synchronization (--allow-full-resync)."


class ProtocolError(EngineError):
    """Bytes that are not what the replication protocol allows at this place."""

    id = "protocol.error"
    advice = "Check that no proxy between the engine and the source alters the stream."


class SnapshotError(EngineError):
    """The snapshot is damaged, cut short, or holds something that the engine does not know."""

    id = "snapshot.invalid"
    advice = (
        "Start the task again; if it happens again, check the source (its log, its memory) and the network."
    )


class SnapshotChecksumError(SnapshotError):
    id = "snapshot.checksum"


class UnsupportedData(EngineError):
    """Something that cannot be expressed on the target, or that the engine does not know. It is never skipped."""

    id = "data.unsupported"
    advice = (
        "Leave the key out (delete it or choose other databases) or use a newer target, then start again."
    )


class UnknownCommand(UnsupportedData):
    id = "stream.unknown_command"
    advice = "The command is not known to this version of the engine; nothing of it was applied."


class OutputBufferExceeded(ConnectionLost):
    """The source has cut the link because more waited for it than the source keeps for a replica."""

    id = "source.output_buffer"
    advice = "Raise client-output-buffer-limit of the replicas on the source."


class SourceImpatient(ConnectionLost):
    """The source has cut the link because it had not read, or not answered, for longer than repl-timeout."""

    id = "source.repl_timeout"
    advice = "Raise repl-timeout on the source, and give the link a spool (--spool-limit) where the target is slower than the source."


class SpoolError(EngineError):
    """What was kept on disk cannot be read again. The link goes on where the target stands."""

    id = "spool.failed"
    advice = "Check the disk of the spool's folder, or choose another folder (--spool-dir)."
    retryable = True


# --- the target -------------------------------------------------------------------------------------------------


class TargetError(EngineError):
    """The target refused a write; the message names the command and key."""

    id = "target.refused"
    advice = "Remove the cause on the target, then start the task again."


class TargetReadOnly(TargetError):
    id = "target.read_only"
    advice = "The target is a replica and refuses writes: choose its master."


class TargetDemoted(TargetReadOnly):
    """The target has become a replica, and there is somebody to ask for the new master."""

    id = "target.demoted"
    advice = "The link asks for the new master and goes on where that one stands."
    retryable = True


class TargetOutOfMemory(TargetError):
    id = "target.out_of_memory"
    advice = "Raise maxmemory of the target (or empty it), then start the task again."


class TargetConflict(TargetError):
    """Keys of the source are in the target already, and the link is not to touch them."""

    id = "target.conflict"
    advice = (
        "Remove these keys from the target or choose another one; or say what becomes of them: "
        "--on-conflict keep leaves them as they are, --on-conflict overwrite replaces them."
    )


class TargetDiverged(TargetError):
    """A write that worked on the source failed on the target while its neighbours were applied."""

    id = "target.diverged"
    advice = (
        "The target was changed by somebody else, or is not the same kind of server. "
        "Compare both sides, then run a full synchronization again."
    )


class ScriptUnknown(TargetError):
    """The source names a script by its digest that neither the link nor the target has."""

    id = "target.no_script"
    advice = (
        "Load the script on the target (SCRIPT LOAD), then start the task again: it goes on where it stood. "
        "A full synchronization brings the scripts that the source then sends, too."
    )


class RepairTooLarge(TargetError):
    """A value that may have been lost to an early expiry, and cannot be read again within the bounds."""

    id = "target.repair_too_large"
    advice = "Delete the key on the source (or its expiry, and copy it by hand), or start with a full synchronization."


class ClusterNotReady(ConnectError):
    """The cluster does not serve all of its slots just now."""

    id = "cluster.not_ready"
    advice = "Check CLUSTER INFO on its nodes; the link goes on by itself as soon as every slot is served."


class ClusterChanged(ConnectError):
    """What the target cluster did with its slots or masters makes this attempt end; the next one begins where the data stands."""

    id = "cluster.changed"
    advice = "The link goes on by itself. If it happens again and again, finish the resharding or the failover of the cluster first."


class Fenced(EngineError):
    """A newer owner has taken the link over; this one must not write any more."""

    id = "link.fenced"
    advice = "Nothing to do: another worker carries this link on."


class LinkLoop(TargetDiverged):
    """An opposite link copies this link's target into its source, and its writes cannot be told from those of others."""

    id = "link.loop"
    advice = "Wait until the full phase of the other link is done, then run a full synchronization of this one (--allow-full-resync)."


class LinkLoopWaiting(EngineError):
    """An opposite link that does not know of this one is in its full phase."""

    id = "link.loop"
    advice = (
        "The link waits until the full phase of the other one is done. If that one exists no more, delete its field of the hash "
        "switchyard:links (database 0) on the source of this link."
    )
    retryable = True


class RetryTimeExceeded(EngineError):
    id = "link.retry_time_exceeded"
    advice = "Remove the cause, then start the task again: it goes on where it stood."
