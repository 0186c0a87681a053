"""`safekeep reconcile`: what our tables and the brokers say of the same backups, and mending the difference."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from deploy.cli.output import clean, plural, show_json, show_rows
from shared.security.secrets import Sealer
from shared.store.backups import Backups
from shared.store.database import Database
from shared.store.jobs import Jobs
from shared.store.migrate import check_schema
from worker.broker.client import BrokerClient
from worker.maintenance.reconcile import Finding, Kind
from worker.maintenance.reconciliation import Reconciliation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.cli.output import Layout
    from shared.records import BackedUpInstance, Json
    from shared.settings import Settings
    from worker.maintenance.reconciliation import Report

FINDINGS_REMAIN: Final = 3
_LAYOUT: Final[Layout] = (
    ("INSTANCE, BACKUP", ("instance", "backup")),
    ("BROKER", ("broker",)),
    ("FINDING", ("finding",)),
    ("OURS", ("ours",)),
    ("THEIRS", ("theirs",)),
    ("WHAT IS DONE ABOUT IT", ("remedy",)),
)


@dataclass(frozen=True, slots=True)
class _Line:
    """A finding with what was done about it."""

    instance: BackedUpInstance
    finding: Finding
    remedy: str
    is_mended: bool

    @property
    def remains(self) -> bool:
        return self.finding.is_wrong and not self.is_mended


async def reconcile(
    settings: Settings,
    *,
    instances: Sequence[str] | None = None,
    brokers: Sequence[str] | None = None,
    fix: bool = False,
    as_json: bool = False,
) -> int:
    """Compare the given instances, those of the given brokers, or all, mend when `fix`, and print; the exit code.

    It is 1 when something could not be compared, else 3 when something wrong remains, else 0. Raises StoreError,
    SchemaError.
    """
    sealer = Sealer([key.get_secret_value() for key in settings.secret_keys])
    async with (
        Database(settings, size=2, name="safekeep-reconcile") as database,
        BrokerClient(settings, sealer) as client,
    ):
        await check_schema(database)
        backups = Backups(database)
        reconciliation = Reconciliation(settings, backups, Jobs(database, settings), client)
        chosen = await backups.list_instances(instances, brokers)
        reports = await reconciliation.compare(chosen)
        lines = [
            await _line(reconciliation, report.instance, finding, fix=fix)
            for report in reports
            for finding in report.findings
        ]
    errors = [*_not_found(chosen, instances or (), brokers or ()), *_errors(reports)]
    counts = _counts(reports, lines)
    if as_json:
        show_json({"findings": [_as_json(line) for line in lines], "errors": errors, "counts": counts})
    else:
        show_rows(_LAYOUT, [_as_row(line) for line in lines])
        for error in errors:
            print(f"safekeep: {clean(error)}", file=sys.stderr)
        # A program reads lines of findings only.
        print(_summary(counts, fix=fix), file=sys.stdout if sys.stdout.isatty() else sys.stderr)
    if errors:
        return 1
    return FINDINGS_REMAIN if counts["remaining"] else 0


async def _line(reconciliation: Reconciliation, instance: BackedUpInstance, finding: Finding, *, fix: bool) -> _Line:
    if finding.fix is None:
        note = finding.note or (f"trigger: {finding.trigger}" if finding.trigger else "")
        return _Line(instance, finding, note, is_mended=False)
    if not fix:
        return _Line(instance, finding, f"--fix would {finding.fix}", is_mended=False)
    is_mended, remedy = await reconciliation.mend(finding)
    return _Line(instance, finding, remedy, is_mended)


def _not_found(chosen: Sequence[BackedUpInstance], instances: Sequence[str], brokers: Sequence[str]) -> list[str]:
    guids = {instance.guid for instance in chosen}
    names = {instance.broker.name for instance in chosen}
    condition = " of these brokers" if brokers else ""
    return [
        *(f"there is no instance {guid}{condition} whose plan has backups" for guid in instances if guid not in guids),
        # With instances given as well, only those are looked for.
        *(
            f"broker {name} has no instance whose plan has backups"
            for name in brokers
            if not instances and name not in names
        ),
    ]


def _errors(reports: Sequence[Report]) -> list[str]:
    return [
        f"instance {report.instance.guid} of broker {report.instance.broker.name}: {report.error}"
        for report in reports
        if report.error
    ]


def _counts(reports: Sequence[Report], lines: Sequence[_Line]) -> dict[str, int]:
    return {
        "instances": len(reports),
        "not_compared": sum(report.error is not None for report in reports),
        "findings": sum(line.finding.is_wrong for line in lines),
        "mended": sum(line.is_mended for line in lines),
        "mendable": sum(line.remains and line.finding.fix is not None for line in lines),
        "remaining": sum(line.remains for line in lines),
        "being_cleaned_up": sum(line.finding.is_in_hand for line in lines),
        "not_ours": sum(line.finding.kind is Kind.FOREIGN for line in lines),
        "malformed": sum(report.malformed for report in reports),
    }


def _summary(counts: dict[str, int], *, fix: bool) -> str:
    parts = [
        plural(counts["instances"], "instance")
        + (f" ({counts['not_compared']} not fully compared)" if counts["not_compared"] else ""),
        plural(counts["findings"], "finding"),
        f"{counts['mended']} mended" if fix else f"--fix would mend {counts['mendable']}",
        f"{counts['being_cleaned_up']} being cleaned up",
        f"{counts['not_ours']} not ours",
    ]
    if counts["malformed"]:
        parts.append(f"{counts['malformed']} malformed in brokers' lists")
    return ", ".join(parts)


def _as_row(line: _Line) -> dict[str, str]:
    finding = line.finding
    return {
        "instance": f"instance {line.instance.guid}",
        "backup": finding.backup_id,
        "broker": line.instance.broker.name,
        "finding": finding.kind,
        "ours": finding.backup.state if finding.backup else "unknown",
        "theirs": finding.theirs or "not there",
        "remedy": line.remedy,
    }


def _as_json(line: _Line) -> Json:
    finding = line.finding
    return {
        "service_instance_guid": line.instance.guid,
        "broker": line.instance.broker.name,
        "backup_id": finding.backup_id,
        "finding": finding.kind,
        "ours": finding.backup and finding.backup.state,
        "theirs": finding.theirs,
        "trigger": finding.trigger,
        "fix": finding.fix,
        "is_mended": line.is_mended,
        "remedy": line.remedy,
    }
