"""Mail, by Django's settings."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Mapping
from contextlib import suppress
from email.message import EmailMessage
from email.mime.text import MIMEText
from email.utils import parseaddr
from typing import Final

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.template.loader import render_to_string

from portal.delivery.errors import NotSent
from portal.delivery.links import absolute
from portal.models import Delivery

ABOUT: Final = re.compile(r"(\w+):([a-z]+-\w+):")
"""The begin of an occasion that is about a thing with an ID: `event:ev-7w8k27tn:published`."""


def send(delivery: Delivery) -> None:
    """Text, and HTML where the notification has it. The Message-ID is the delivery's own: a mail server that gets it twice can tell."""
    told = delivery.notification
    contact = told.contact
    if contact is None or not contact.email:
        raise NotSent("The contact has no mail address.", for_good=True)
    context = {"told": told, "link": absolute(told.url), "site": settings.SITE_URL}
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].partition("@")[2] or "localhost"
    headers = {
        "Message-ID": f"<{told.public_id}.{delivery.pk}@{domain}>",
        "Auto-Submitted": "auto-generated",
    }
    if thread := _thread(told.occasion, domain):
        headers |= {"In-Reply-To": thread, "References": thread}
    if told.urgent:
        headers |= {"X-Priority": "1", "Importance": "high"}
    message = EmailMultiAlternatives(
        subject=" ".join(told.subject.split()),
        body=render_to_string("portal/mail/message.txt", context),
        to=[contact.email],
        headers=headers,
    )
    message.attach_alternative(render_to_string("portal/mail/message.html", context), "text/html")
    for one in told.attachments:
        message.attach(_part(one))
    try:
        _hand_over(message)
    except smtplib.SMTPRecipientsRefused as error:
        replies = list(error.recipients.values())
        code, text = replies[0] if replies else (550, b"")
        raise NotSent(
            f"The mail server refused the address: {code} {_text(text)}", for_good=500 <= code < 600
        ) from error
    except smtplib.SMTPDataError as error:
        raise NotSent(
            f"The mail server refused the message: {error.smtp_code} {_text(error.smtp_error)}",
            for_good=500 <= error.smtp_code < 600,
        ) from error
    except smtplib.SMTPAuthenticationError as error:
        raise NotSent(
            f"The mail server refused Switchyard's own sign-in ({error.smtp_code}): an administrator has to look at EMAIL_HOST_USER."
        ) from error
    except smtplib.SMTPResponseException as error:
        raise NotSent(f"The mail server answered {error.smtp_code} {_text(error.smtp_error)}") from error
    except (smtplib.SMTPException, OSError) as error:
        raise NotSent(f"The mail server could not be reached: {error or type(error).__name__}") from error


def _thread(occasion: str, domain: str) -> str:
    """The same name for all mails about one thing, so that mail programs keep them together; "" where an occasion stands alone.

    No mail has that name: whichever comes first, also to somebody who is told later than others, the next ones belong to it.
    """
    found = ABOUT.match(occasion)
    return f"<{found[1]}.{found[2]}@{domain}>" if found else ""


def _part(attachment: Mapping[str, str]) -> MIMEText:
    """`type` may have parameters, such as the method of a calendar. In base64: calendars end their lines with CR and LF, wherever they go."""
    kind = EmailMessage()
    kind["Content-Type"] = attachment["type"]
    part = MIMEText(attachment["text"], kind.get_content_subtype(), "utf-8")
    for name, value in kind["Content-Type"].params.items():
        part.set_param(name, value)
    part.add_header("Content-Disposition", "attachment", filename=attachment["name"])
    return part


def _hand_over(message: EmailMultiAlternatives) -> None:
    """Once the server has taken the message it is sent, whatever becomes of the farewell."""
    connection = get_connection()
    connection.open()
    try:
        message.connection = connection
        message.send()
    finally:
        with suppress(smtplib.SMTPException, OSError):
            connection.close()


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
