"""URLs of the events, under /events/. Those that work without a login (links in messages, feeds) are among them."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from events.views import actions, bulk, calendar, campaigns, center, event, execution, feeds, links, publish

# Fixed words come before the ID of an event.
urlpatterns: list[URLPattern | URLResolver] = [
    path("", center.event_list, name="event_list"),
    path("history/", center.event_history, name="event_history"),
    path("publish/", publish.event_publish, name="event_publish"),
    path("campaigns/", campaigns.campaign_list, name="event_campaign_list"),
    path("campaigns/<slug:public_id>/", campaigns.campaign_detail, name="event_campaign"),
    path("export.csv", center.event_export, name="event_export"),
    path("calendar/", calendar.event_calendar, name="event_calendar"),
    path("feeds/", feeds.feed_list, name="event_feeds"),
    path("feeds/<slug:public_id>/revoke/", feeds.feed_revoke, name="event_feed_revoke"),
    path("feed/<str:token>.ics", feeds.feed, name="event_feed"),
    path("link/<str:token>/", links.link, name="event_link"),
    path("bulk/", bulk.event_bulk_start, name="event_bulk_start"),
    path("bulk/<slug:public_id>/", bulk.event_bulk, name="event_bulk"),
    path("<slug:public_id>/", event.event_detail, name="event_detail"),
    path("<slug:public_id>/reschedule/", actions.event_reschedule, name="event_reschedule"),
    path("<slug:public_id>/acknowledge/", actions.event_acknowledge, name="event_acknowledge"),
    path("<slug:public_id>/confirm/", execution.event_confirm, name="event_confirm"),
    path("<slug:public_id>/cancel/", actions.event_cancel, name="event_cancel"),
]
