"""Settings of the follow-up service (`LUNGMESH_FOLLOWUP__…`)."""

from __future__ import annotations

from dataclasses import astuple
from functools import cached_property

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lungmesh.followup.guidelines import engine
from lungmesh.followup.guidelines.table import Guideline
from lungmesh.followup.laying import Limits
from lungmesh.followup.timeline import Rules


class FollowupSettings(BaseSettings):
    """How exams are compared, which guidelines speak, and how late an exam may be.

    A guideline is named as `NCCN`, its newest edition, or as `NCCN@2014`.
    """

    model_config = SettingsConfigDict(env_prefix="LUNGMESH_FOLLOWUP__", extra="ignore")

    priors: int = Field(
        2, ge=1, le=10, description="most recent earlier exams that are registered and compared"
    )
    least_dice: float = Field(
        Limits.least_dice,
        ge=0,
        le=1,
        description="overlap of the lung masks below which a registration is refused",
    )
    most_inverse_error_mm: float = Field(
        Limits.most_inverse_error_mm,
        gt=0,
        description="error of there and back above which a registration is refused, mm",
    )
    least_likeness: float = Field(
        Limits.least_likeness,
        ge=-1,
        le=1,
        description="correlation of the lungs' vessels below which a registration is refused",
    )
    guideline: str = Field("Lung-RADS", description="guideline of a programme: names the next exam")
    tenant_guidelines: dict[str, str] = Field(
        {}, description="JSON object: guideline of a tenant that has another one"
    )
    guidelines: list[str] = Field(
        ["Lung-RADS", "C-Lung-RADS"], description="JSON list: guidelines told beside it"
    )
    grace_days: int = Field(
        30, ge=0, le=365, description="days after its due date on which an exam is overdue"
    )
    lost_days: int = Field(
        180, ge=1, le=3650, description="days after its due date on which a patient counts as lost"
    )
    list_limit: int = Field(
        100, ge=1, le=1000, description="exams on a page when none is asked for"
    )
    count_seconds: float = Field(
        60.0, gt=0, description="seconds between two counts of due exams for the metrics"
    )
    concurrency: int = Field(1, ge=1, le=16, description="patients handled at once")
    deadline_seconds: float = Field(
        300.0, gt=0, description="longest time for one exam and all that it changes"
    )

    @model_validator(mode="after")
    def _sensible(self) -> FollowupSettings:
        """Raise ValueError for a guideline that there is not."""
        for name in (self.guideline, *self.tenant_guidelines.values(), *self.guidelines):
            _load(name)
        if self.lost_days <= self.grace_days:
            raise ValueError("lost_days must be more than grace_days")
        return self

    @property
    def limits(self) -> Limits:
        """When a registration is refused."""
        return Limits(
            least_dice=self.least_dice,
            most_inverse_error_mm=self.most_inverse_error_mm,
            least_likeness=self.least_likeness,
        )

    @cached_property
    def _beside(self) -> tuple[Guideline, ...]:
        return tuple(_load(name) for name in self.guidelines)

    def rules(self, tenant: str) -> Rules:
        """Return what a tenant's timelines are made with."""
        programme = _load(self.tenant_guidelines.get(tenant, self.guideline))
        beside = (guideline for guideline in self._beside if guideline is not programme)
        return Rules((programme, *beside), self.priors)

    @property
    def version(self) -> str:
        """What of the settings changes a result."""
        tenants = sorted(self.tenant_guidelines.items())
        named = [self.guideline, *(name for _, name in tenants), *self.guidelines]
        editions = [f"{table.name}-{table.edition}" for table in map(_load, named)]
        limits = "/".join(f"{value:g}" for value in (self.priors, *astuple(self.limits)))
        return "+".join((limits, *editions, *(tenant for tenant, _ in tenants)))


def _load(name: str) -> Guideline:
    plain, _, edition = name.partition("@")
    return engine.load(plain, edition or None)
