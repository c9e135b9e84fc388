"""What a person chooses for themselves."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from portal.forms import ProfileForm
from portal.htmx import HtmxHttpRequest
from portal.middleware import TIME_ZONE_KEY
from portal.models import UserProfile
from portal.services import audit

THEME_SECONDS = 365 * 86_400


@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HtmxHttpRequest) -> HttpResponse:
    stored = UserProfile.objects.filter(user=request.user).first()
    initial = {
        "time_zone": stored.time_zone if stored else "",
        "theme": request.COOKIES.get("theme", "auto"),
    }
    form = ProfileForm(
        request.POST if request.method == "POST" else None, initial=initial, default_zone=settings.TIME_ZONE
    )
    if request.method == "POST" and form.is_valid():
        zone = form.cleaned_data["time_zone"]
        UserProfile.objects.update_or_create(user=request.user, defaults={"time_zone": zone})
        request.session[TIME_ZONE_KEY] = zone
        messages.success(request, "Your profile was saved.")
        response = redirect("profile")
        # Readable by portal.js, which switches the theme as well; it says nothing about the person.
        response.set_cookie(
            "theme", form.cleaned_data["theme"], THEME_SECONDS, samesite="Lax", secure=settings.SECURE_SSL
        )
        return response
    memberships = request.user.memberships.select_related("account").order_by("account__name")
    status = 422 if form.errors else 200
    return render(request, "portal/profile.html", {"form": form, "memberships": memberships}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
def change_password(request: HtmxHttpRequest) -> HttpResponse:
    form = PasswordChangeForm(request.user, request.POST if request.method == "POST" else None)
    for field in form.fields.values():
        field.widget.attrs["class"] = "form-control"
    if request.method == "POST" and form.is_valid():
        user = form.save()
        update_session_auth_hash(request, user)  # this session stays; all others of the person end
        audit.record(request.user, "user.password_changed", user)
        messages.success(request, "Your password was changed. Other sessions of yours were ended.")
        return redirect("profile")
    return render(request, "portal/profile_password.html", {"form": form}, status=422 if form.errors else 200)
