"""The pages of the migration tasks, under `/migrations/`."""

from __future__ import annotations

from django.urls import path

from migrations_app import views

urlpatterns = [
    path("", views.task_list, name="task_list"),
    path("new/", views.task_create, name="task_create"),
    path("stop/", views.task_stop_selected, name="task_stop_selected"),
    path("<slug:public_id>/", views.task_detail, name="task_detail"),
    path("<slug:public_id>/log/", views.task_log, name="task_log"),
    path("<slug:public_id>/start/", views.task_start, name="task_start"),
    path("<slug:public_id>/stop/", views.task_stop, name="task_stop"),
    path("<slug:public_id>/resume/", views.task_resume, name="task_resume"),
    path("<slug:public_id>/delete/", views.task_delete, name="task_delete"),
]
