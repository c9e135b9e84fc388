"""The pages of the migration tasks, under `/migrations/`."""

from __future__ import annotations

from django.urls import path

from migrations_app.views import actions, checks, log, running, shared, tasks, verifications
from migrations_app.views.setup import confirm as confirm  # each step registers itself
from migrations_app.views.setup import create, objects, precheck, shell
from migrations_app.views.setup import sides as sides

urlpatterns = [
    path("", tasks.task_list, name="task_list"),
    path("new/", create.task_create, name="task_create"),
    path("bulk/", actions.task_bulk, name="task_bulk"),
    path("shared/", shared.shared_list, name="task_shared_list"),
    path("<slug:public_id>/", tasks.task_detail, name="task_detail"),
    path("<slug:public_id>/shared/stop/", shared.shared_stop, name="task_shared_stop"),
    path("<slug:public_id>/setup/<slug:step>/", shell.task_setup, name="task_setup"),
    path("<slug:public_id>/settings/", running.task_settings, name="task_settings"),
    path("<slug:public_id>/connection/<slug:side>/", running.task_connection, name="task_connection"),
    path("<slug:public_id>/checks/", checks.task_checks, name="task_checks"),
    path("<slug:public_id>/charts/", tasks.task_charts, name="task_charts"),
    path("<slug:public_id>/log/", log.task_log, name="task_log"),
    path("<slug:public_id>/log/tail/", log.task_log_tail, name="task_log_tail"),
    path("<slug:public_id>/log/download/", log.task_log_download, name="task_log_download"),
    path("<slug:public_id>/start/", actions.task_start, name="task_start"),
    path("<slug:public_id>/pause/", actions.task_pause, name="task_pause"),
    path("<slug:public_id>/release/", actions.task_release, name="task_release"),
    path("<slug:public_id>/stop/", actions.task_stop, name="task_stop"),
    path("<slug:public_id>/resume/", actions.task_resume, name="task_resume"),
    path("<slug:public_id>/delete/", actions.task_delete, name="task_delete"),
    path("<slug:public_id>/verifications/", verifications.verification_list, name="verification_list"),
    path("<slug:public_id>/verifications/new/", verifications.verification_start, name="verification_start"),
    path(
        "<slug:public_id>/verifications/<slug:inspection_id>/",
        verifications.verification_detail,
        name="verification_detail",
    ),
    path(
        "<slug:public_id>/verifications/<slug:inspection_id>/cancel/",
        verifications.verification_cancel,
        name="verification_cancel",
    ),
    path(
        "<slug:public_id>/verifications/<slug:inspection_id>/repair/",
        verifications.verification_repair,
        name="verification_repair",
    ),
    path(
        "<slug:public_id>/verifications/<slug:inspection_id>/<str:form>",
        verifications.verification_download,
        name="verification_download",
    ),
    path(
        "<slug:public_id>/repairs/<slug:inspection_id>/",
        verifications.correction_detail,
        name="correction_detail",
    ),
    path(
        "<slug:public_id>/setup/objects/commands/<slug:database>/",
        objects.task_setup_commands,
        name="task_setup_commands",
    ),
    path("<slug:public_id>/precheck/", precheck.task_precheck, name="task_precheck"),
    path(
        "<slug:public_id>/precheck/<int:item>/ignore/",
        precheck.task_precheck_ignore,
        name="task_precheck_ignore",
    ),
    path(
        "<slug:public_id>/precheck/<int:item>/repair/",
        precheck.task_precheck_repair,
        name="task_precheck_repair",
    ),
    path("<slug:public_id>/precheck/restore/", precheck.task_repairs_restore, name="task_repairs_restore"),
    path(
        "<slug:public_id>/inspections/<slug:inspection>/cancel/",
        precheck.task_inspection_cancel,
        name="task_inspection_cancel",
    ),
    path("<slug:public_id>/rehearsal/", precheck.task_rehearsal, name="task_rehearsal"),
]
