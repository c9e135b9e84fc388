"""The icons of the console: paths in a 24 × 24 box, drawn with a line of the colour of the text."""

from __future__ import annotations

from typing import Final

_CIRCLE = '<circle cx="12" cy="12" r="9"/>'

ICONS: Final[dict[str, str]] = {
    "alert": '<path d="M12 4 2.8 20h18.4z"/><path d="M12 10v4.5M12 17.3v.2"/>',
    "arrow-left-right": '<path d="M4 8h15M15.5 4.5 19 8l-3.5 3.500M20 16H5M8.5 12.5 5 16l3.5 3.5"/>',
    "arrow-up-circle": f'{_CIRCLE}<path d="M12 16.500V8M8.5 11 12 7.500l3.5 3.5"/>',
    "bell": '<path d="M6 17V11a6 6 0 0 1 12 0v6l1.5 1.500h-15zM10 21h4"/>',
    "calendar": '<path d="M4 6h16v14H4zM4 10.500h16M8.5 3.500V8M15.5 3.500V8"/>',
    "check": '<path d="m5 12.5 4.5 4.500L19 7.5"/>',
    "check-circle": f'{_CIRCLE}<path d="m8 12.3 2.8 2.800L16 9.5"/>',
    "chevron-down": '<path d="m6 9.5 6 6 6-6"/>',
    "chevron-left": '<path d="m14.5 6-6 6 6 6"/>',
    "chevron-right": '<path d="m9.5 6 6 6-6 6"/>',
    "clipboard": '<path d="M6 5h12v16H6zM9.5 3h5v4h-5zM9.5 12h5M9.5 16h5"/>',
    "clock": f'{_CIRCLE}<path d="M12 7v5.300l3.5 2"/>',
    "close": '<path d="m6 6 12 12M18 6 6 18"/>',
    "copy": '<path d="M9 9h11v11H9zM15.5 9V4H4v11.500h5"/>',
    "database": '<ellipse cx="12" cy="6" rx="7.5" ry="3"/><path d="M4.5 6v12c0 4 15 4 15 0V6M4.5 12c0 4 15 4 15 0"/>',
    "dot": '<circle cx="12" cy="12" r="4" fill="currentColor"/>',
    "download": '<path d="M12 4v11M7.5 11l4.5 4.5 4.5-4.500M4.5 20h15"/>',
    "edit": '<path d="m4 20 1-4.500L16 4.5 19.5 8 8.5 19zM13.5 7l3.5 3.5"/>',
    "eye": '<path d="M2.5 12C7 4.5 17 4.5 21.5 12 17 19.5 7 19.5 2.5 12z"/><circle cx="12" cy="12" r="3"/>',
    "filter": '<path d="M4 5h16l-6.2 7.500V19l-3.6-2v-4.500z"/>',
    "globe": f'{_CIRCLE}<path d="M3 12h18M12 3c-5 5-5 13 0 18 5-5 5-13 0-18z"/>',
    "grid": '<path d="M4 4h6.500v6.500H4zM13.5 4H20v6.500h-6.500zM4 13.500h6.500V20H4zM13.5 13.500H20V20h-6.500z"/>',
    "info": f'{_CIRCLE}<path d="M12 11v5.500M12 7.500v.2"/>',
    "key": '<circle cx="8" cy="16" r="4"/><path d="m11 13 8.5-8.500M16 8l3 3M13.5 10.500l2 2"/>',
    "layers": '<path d="m12 3.5 9 5-9 5-9-5zM3.5 13l8.5 4.7 8.5-4.7"/>',
    "lock": '<path d="M5.5 11h13v9h-13zM8.5 11V8a3.5 3.5 0 0 1 7 0v3"/>',
    "logout": '<path d="M14 4H5v16h9M10 12h10.500M17 8.500l3.5 3.5-3.5 3.5"/>',
    "menu": '<path d="M4 6.500h16M4 12h16M4 17.500h16"/>',
    "moon": '<path d="M20 14.500A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.500z"/>',
    "pause": '<path d="M8.5 5v14M15.5 5v14"/>',
    "pause-circle": f'{_CIRCLE}<path d="M9.7 8.500v7M14.3 8.500v7"/>',
    "people": '<circle cx="9" cy="8.5" r="3.5"/><path d="M2.5 20c0-8 13-8 13 0M15.5 5.200a3.5 3.5 0 0 1 0 6.600M18 14.500c2.5 1 3.5 3 3.5 5.5"/>',
    "play": '<path d="m7.5 5 11 7-11 7z"/>',
    "plus": '<path d="M12 5v14M5 12h14"/>',
    "question-circle": f'{_CIRCLE}<path d="M9.3 9.500c.2-3.3 5.6-3.2 5.4 0-.1 2-2.7 2-2.7 4.200M12 16.800v.2"/>',
    "refresh": '<path d="M19.5 12a7.5 7.5 0 1 1-2.3-5.400M19.5 3.500v4.700h-4.7"/>',
    "search": '<circle cx="10.5" cy="10.5" r="6"/><path d="m15 15 5.5 5.5"/>',
    "server": '<path d="M4 4.500h16v6H4zM4 13.500h16v6H4zM7.5 7.500h.2M7.5 16.500h.2M11 7.500h5.500M11 16.500h5.5"/>',
    "settings": '<path d="M4 7h9M17 7h3M4 17h3M11 17h9"/><circle cx="15" cy="7" r="2"/><circle cx="9" cy="17" r="2"/>',
    "shield": '<path d="M12 3.5 5 6v6c0 4.5 3 7 7 8.5 4-1.5 7-4 7-8.500V6z"/>',
    "sort": '<path d="m8 9.5 4-4 4 4M8 14.500l4 4 4-4"/>',
    "sort-down": '<path d="m8 12.5 4 4 4-4"/>',
    "sort-up": '<path d="m8 12.5 4-4 4 4"/>',
    "spinner": '<path d="M12 3a9 9 0 1 0 9 9"/>',
    "stop": '<path d="M6.5 6.500h11v11h-11z"/>',
    "stop-circle": f'{_CIRCLE}<path d="M9 9h6v6H9z"/>',
    "sun": '<circle cx="12" cy="12" r="4"/><path d="M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.400M5.6 18.4 7 17M17 7l1.4-1.4"/>',
    "trash": '<path d="M4.5 6.500h15M9 6.500V4h6v2.500M6.5 6.5 7.5 20h9l1-13.500M10 10.500v6M14 10.500v6"/>',
    "user": '<circle cx="12" cy="8" r="4"/><path d="M4.5 20.500c0-9 15-9 15 0"/>',
    "unlock": '<path d="M5.5 11h13v9h-13zM8.5 11V8a3.5 3.5 0 0 1 6.8-1.200"/>',
    "wrench": '<path d="M20 7.500a5 5 0 0 1-6.8 5.300L6.5 19.500a2 2 0 0 1-3-3l6.8-6.700A5 5 0 0 1 16.5 4l-3 3 .5 3 3 .5z"/>',
    "x-circle": f'{_CIRCLE}<path d="m9 9 6 6M15 9l-6 6"/>',
}


def svg(name: str, css_class: str = "") -> str:
    """The icon as SVG that assistive technology skips: the text beside it says the same. KeyError for an unknown name."""
    return (
        f'<svg class="icon {css_class}" viewBox="0 0 24 24" width="16" height="16" fill="none" stroke="currentColor" '
        f'stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">'
        f"{ICONS[name]}</svg>"
    )
