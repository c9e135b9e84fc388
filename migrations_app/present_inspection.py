"""What every page of an inspection asks of it."""

from __future__ import annotations

from migrations_app.choices import InspectionStatus
from migrations_app.models import Inspection


class InspectionView:
    """The newest inspection of a kind; `inspection` is None before the first one."""

    def __init__(self, inspection: Inspection | None) -> None:
        self.inspection = inspection

    @property
    def is_running(self) -> bool:
        return self.inspection is not None and not self.inspection.status_badge.is_final

    @property
    def is_done(self) -> bool:
        return self.inspection is not None and self.inspection.status == InspectionStatus.DONE
