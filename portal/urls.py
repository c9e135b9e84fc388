"""All URLs. Apps add theirs under a prefix of their own."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import URLPattern, URLResolver, include, path

from portal.api import PREFIX, api, open_to_tokens
from portal.views import (
    accounts,
    audit,
    contacts,
    deliveries,
    health,
    home,
    inbox,
    instances,
    profile,
    roles,
    saved_views,
    templates,
    tokens,
    windows,
)

handler400 = "portal.views.errors.bad_request"
handler403 = "portal.views.errors.forbidden"
handler404 = "portal.views.errors.not_found"
handler500 = "portal.views.errors.server_error"

api.add_router("/events", "events.api.router")
api.add_router("/migrations", "migrations_app.api.router")

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("healthz", health.healthz, name="healthz"),
    path("login/", auth_views.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("profile/", profile.profile, name="profile"),
    path("profile/password/", profile.change_password, name="profile_password"),
    path("profile/tokens/", tokens.token_list, name="token_list"),
    path("profile/tokens/<slug:public_id>/revoke/", tokens.token_revoke, name="token_revoke"),
    path("instances/", instances.instance_list, name="instance_list"),
    path("instances/register/", instances.instance_register, name="instance_register"),
    path("instances/<slug:public_id>/", instances.instance_detail, name="instance_detail"),
    path("instances/<slug:public_id>/refresh/", instances.instance_refresh, name="instance_refresh"),
    path("instances/<slug:public_id>/edit/", instances.instance_edit, name="instance_edit"),
    path("instances/<slug:public_id>/delete/", instances.instance_delete, name="instance_delete"),
    path("instances/<slug:public_id>/window/", windows.instance_window, name="instance_window"),
    path("accounts/", accounts.account_list, name="account_list"),
    path("accounts/new/", accounts.account_create, name="account_create"),
    path("accounts/<slug:public_id>/", accounts.account_detail, name="account_detail"),
    path("accounts/<slug:public_id>/members/", accounts.member_add, name="account_member_add"),
    path(
        "accounts/<slug:public_id>/members/<int:membership_id>/",
        accounts.member_change,
        name="account_member_change",
    ),
    path("accounts/<slug:public_id>/window/", windows.account_window, name="account_window"),
    path("accounts/<slug:public_id>/templates/", templates.template_list, name="template_list"),
    path("accounts/<slug:public_id>/templates/new/", templates.template_create, name="template_create"),
    path(
        "accounts/<slug:public_id>/templates/<int:template_id>/",
        templates.template_edit,
        name="template_edit",
    ),
    path(
        "accounts/<slug:public_id>/templates/<int:template_id>/delete/",
        templates.template_delete,
        name="template_delete",
    ),
    path("accounts/<slug:public_id>/roles/new/", roles.role_create, name="account_role_create"),
    path("accounts/<slug:public_id>/contacts/new/", contacts.contact_create, name="account_contact_create"),
    path("accounts/<slug:public_id>/contacts/<int:contact_id>/", contacts.contact, name="account_contact"),
    path(
        "accounts/<slug:public_id>/contacts/<int:contact_id>/edit/",
        contacts.contact_edit,
        name="account_contact_edit",
    ),
    path(
        "accounts/<slug:public_id>/contacts/<int:contact_id>/delete/",
        contacts.contact_delete,
        name="account_contact_delete",
    ),
    path(
        "accounts/<slug:public_id>/contacts/<int:contact_id>/test/",
        contacts.contact_test,
        name="account_contact_test",
    ),
    path(
        "accounts/<slug:public_id>/contacts/<int:contact_id>/channels/<int:channel_id>/secret/",
        contacts.secret_rotate,
        name="account_contact_secret",
    ),
    path("accounts/<slug:public_id>/deliveries/", deliveries.delivery_list, name="account_deliveries"),
    path(
        "accounts/<slug:public_id>/deliveries/<int:delivery_id>/again/",
        deliveries.redeliver,
        name="account_redeliver",
    ),
    path("instances/<slug:public_id>/contacts/", contacts.instance_contacts, name="instance_contacts"),
    path("inbox/", inbox.inbox_list, name="inbox"),
    path("inbox/read/", inbox.mark_all, name="inbox_read_all"),
    path("inbox/<slug:public_id>/", inbox.message, name="inbox_message"),
    path("inbox/<slug:public_id>/mark/", inbox.mark, name="inbox_mark"),
    path("roles/<slug:public_id>/", roles.role_detail, name="account_role"),
    path("roles/<slug:public_id>/edit/", roles.role_edit, name="account_role_edit"),
    path("roles/<slug:public_id>/revoke/", roles.role_revoke, name="account_role_revoke"),
    path("views/", saved_views.saved_view_list, name="saved_view_list"),
    path("views/new/", saved_views.saved_view_create, name="saved_view_create"),
    path("views/<int:view_id>/", saved_views.saved_view_change, name="saved_view_change"),
    path("audit/", audit.audit_list, name="audit_list"),
    path("events/", include("events.urls")),
    path("migrations/", include("migrations_app.urls")),
    path(PREFIX, open_to_tokens()),
    path("admin/", admin.site.urls),
]
