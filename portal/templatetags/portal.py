"""Tags and filters of every page (builtins: no `{% load %}` needed).

{% icon "server" %}                     an icon
{% badge instance.status_badge %}       icon and label of a member of BadgedChoices
{% with_icon instance.role_badge %}     the same, as plain text
{% time task.started_at %}              a <time> in the reader's zone, with UTC beside it
{% since task.started_at %}             a <time> that reads "4 minutes ago"
{{ instance.memory_used|filesize }}     1.4 GiB
{% copy_button account.public_id %}     a button that copies the text (shown where scripts run)
{% field form.host %}                   label, widget, help and errors of a form field
{{ value|moment }}                      a text of the audit log: a time in the reader's zone, anything else as it is
{% object_url entry as url %}           the page of what an entry of the audit log is about
{{ told|text_for_inbox }}               a message without the links that somebody who is signed in does not need
{{ told|excerpt }}                      the same, without its first paragraph, which repeats the subject
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django import template
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince

from portal import icons
from portal.choices import BadgedChoices, Category
from portal.models import AuditEntry, Notification
from portal.services import audit

register = template.Library()

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
SIGNED: Final = "/events/link/"
"""In the address of every link that works without signing in."""
PAGES: Final = {
    "account": "account_detail",
    "bulkchange": "event_bulk",
    "campaign": "event_campaign",
    "event": "event_detail",
}
"""What is never deleted has a page for ever, by the `object_type` of the audit log."""


@register.simple_tag
def icon(name: str, css_class: str = "") -> SafeString:
    return mark_safe(icons.svg(name, css_class))  # noqa: S308  # our own paths; names come from templates and choices


@register.simple_tag
def badge(member: BadgedChoices | None, label: str = "") -> SafeString:
    """`label` replaces the member's own text: `{% badge member "delayed 4 s" %}`."""
    if member is None:
        return SafeString("")
    return format_html(
        '<span class="badge-status tone-{}">{}<span>{}</span></span>',
        member.tone,
        icon(member.icon),
        label or member.label,
    )


@register.simple_tag
def with_icon(member: BadgedChoices) -> SafeString:
    """Icon and label without the coloured ground of a badge: for what is no status."""
    return format_html('<span class="with-icon">{}<span>{}</span></span>', icon(member.icon), member.label)


@register.filter
def action_label(action: str) -> str:
    """An action of the audit log for people: `instance.status_changed` as "Instance status changed"."""
    return action.replace(".", " ").replace("_", " ").capitalize()


@register.filter
def category_label(value: str) -> str:
    """A value of portal.choices.Category for people."""
    return str(Category(value).label) if value in Category.values else value


@register.filter
def moment(text: str) -> str:
    return audit.readable(text)


@register.simple_tag
def object_url(entry: AuditEntry) -> str:
    """ "" for what may be gone, or has no page."""
    name = PAGES.get(entry.object_type)
    return reverse(name, args=[entry.object_id]) if name and entry.object_id else ""


@register.filter
def text_for_inbox(told: Notification) -> str:
    """Without the links that work without signing in, and without that of the button. Of a paragraph that does nothing but introduce
    one nothing is left."""
    kept = []
    for block in told.text.split("\n\n"):
        lines = block.split("\n")
        left = [line for line in lines if SIGNED not in line and not _leads_to(line, told.url)]
        if left == lines or (len(left) > 1 and not any(line.endswith(":") for line in left)):
            kept.append("\n".join(left))
    return "\n\n".join(kept)


@register.filter
def excerpt(told: Notification) -> str:
    """Of a message for a list, in which its subject stands above it."""
    text = text_for_inbox(told)
    return text.partition("\n\n")[2] or text


def _leads_to(line: str, url: str) -> bool:
    return bool(url) and line.lstrip().startswith("http") and line.endswith(url)


@register.simple_tag(name="time")
def time_tag(value: datetime | None, empty: str = "—", seconds: bool = False) -> SafeString:
    """Date and time in the reader's zone, and in UTC unless that is the same."""
    if value is None:
        return format_html('<span class="text-body-secondary">{}</span>', empty)
    clock = "%H:%M:%S" if seconds else "%H:%M"
    local, utc = timezone.localtime(value), value.astimezone(UTC)
    if local.utcoffset() == timedelta(0):
        return format_html(
            '<time datetime="{}">{} <span class="zone">UTC</span></time>',
            utc.isoformat(timespec="seconds"),
            utc.strftime(f"%Y-%m-%d {clock}"),
        )
    same_day = local.date() == utc.date()
    return format_html(
        '<time datetime="{}">{} <span class="zone">{}</span> <span class="utc">{} <span class="zone">UTC</span></span></time>',
        utc.isoformat(timespec="seconds"),
        local.strftime(f"%Y-%m-%d {clock}"),
        local.strftime("%Z"),
        utc.strftime(clock if same_day else f"%m-%d {clock}"),
    )


@register.simple_tag
def since(value: datetime | None, empty: str = "never") -> SafeString:
    """How long ago, in the largest unit; the exact times are in the tooltip."""
    if value is None:
        return format_html('<span class="text-body-secondary">{}</span>', empty)
    age = timezone.now() - value
    words = "just now" if age < timedelta(minutes=1) else f"{timesince(value, depth=1)} ago"
    utc = value.astimezone(UTC)
    local = timezone.localtime(value)
    title = f"{local:%Y-%m-%d %H:%M:%S %Z}" + (
        "" if local.utcoffset() == timedelta(0) else f" · {utc:%H:%M:%S} UTC"
    )
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        utc.isoformat(timespec="seconds"),
        title,
        words.replace("\xa0", " "),
    )


@register.filter
def filesize(value: int | None, empty: str = "—") -> str:
    """Bytes in the largest binary unit that gives at least 1, with one decimal below 100."""
    if value is None:
        return empty
    size = float(value)
    for unit in UNITS:
        if abs(size) < 1024 or unit == UNITS[-1]:
            break
        size /= 1024
    if unit == "bytes":
        return f"{int(size)} {'byte' if value == 1 else unit}"
    return f"{size:.1f} {unit}" if size < 100 else f"{size:.0f} {unit}"


@register.simple_tag
def copy_button(text: str, what: str = "") -> SafeString:
    return format_html(
        '<button type="button" class="btn-icon js-only" data-copy="{}" aria-label="Copy {}" title="Copy {}">{}</button>',
        text,
        what or text,
        what or text,
        icon("copy"),
    )


@register.inclusion_tag("portal/_field.html")
def field(bound: BoundField, css_class: str = "") -> dict[str, Any]:
    """Label, widget, help and errors, tied together for assistive technology."""
    return {
        "field": bound,
        "css_class": css_class,
        "is_checkbox": isinstance(bound.field.widget, CheckboxInput),
        "is_list": isinstance(bound.field.widget, CheckboxSelectMultiple),
    }


@register.filter
def minus(value: int, other: int) -> int:
    return value - other
