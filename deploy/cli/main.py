"""The `safekeep` command: every way to start Safekeep, and the small tools around it.

Commands import what they need when they run, so that `safekeep --help` is quick and a production install does not need
what only the local stack uses.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID  # noqa: TC003 - as above

import typer

from shared.errors import SafekeepError, SettingsError

if TYPE_CHECKING:
    from shared.settings import Settings

app = typer.Typer(
    name="safekeep",
    help="Backups of Cloud Foundry service instances.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def demo() -> None:
    """Show the main job on a stack of its own: back up a database, destroy its rows, restore them."""
    from deploy.local.demo import run_demo

    raise typer.Exit(run_demo())


@app.command()
def up(
    ready_file: Annotated[
        Path | None, typer.Option(help="Write a JSON object with URLs, tokens and pids here once all is ready.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(envvar="SAFEKEEP_LOCAL_DIRECTORY", help="Where data is kept between runs.")
    ] = None,
) -> None:
    """Start the whole stack and keep it up until Ctrl-C. Data is kept in .safekeep/ between runs."""
    from deploy.local.up import run_up

    raise typer.Exit(run_up(directory, ready_file))


@app.command()
def api() -> None:
    """Run the HTTP API."""
    from deploy.cli.api import run_api

    run_api(_settings())


@app.command()
def worker() -> None:
    """Run one worker process; start as many as the load needs, on as many computers."""
    from deploy.cli.worker import run_worker_process

    raise typer.Exit(run_worker_process(_settings()))


@app.command()
def migrate() -> None:
    """Bring the database's schema to what this version needs. Safe to run twice, and by several at once."""
    from shared.store.migrate import migrate as apply_migrations

    applied = apply_migrations(_settings().database_url.get_secret_value())
    for migration in applied:
        print(f"applied {migration.version:04d}_{migration.name}")
    if not applied:
        print("nothing to do: the schema is up to date")


@app.command()
def apply(
    file: Annotated[Path, typer.Option("--file", "-f", help="The directory: brokers, instances, roles.")],
) -> None:
    """Make the directory be what a YAML file says. Idempotent; all of it or nothing."""
    from deploy.cli.apply import apply_file

    for line in asyncio.run(apply_file(_settings(), file, os.environ)):
        print(line)


@app.command()
def clean_ups(
    retry: Annotated[
        list[UUID] | None, typer.Option(metavar="GUID", help="Begin this one anew that was given up. Repeatable.")
    ] = None,
    retry_all: Annotated[bool, typer.Option("--retry-all", help="Begin all anew that were given up.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what is still to be removed at brokers after failed jobs, or try again. 1: one could not be begun anew."""
    from deploy.cli.clean_ups import retry_clean_ups, show_clean_ups

    settings = _settings_for("clean-ups")
    if retry or retry_all:
        raise typer.Exit(asyncio.run(retry_clean_ups(settings, retry or [], with_all=retry_all, as_json=as_json)))
    raise typer.Exit(asyncio.run(show_clean_ups(settings, as_json=as_json)))


@app.command()
def reconcile(
    instance: Annotated[list[str] | None, typer.Option(metavar="GUID", help="Only this one. Repeatable.")] = None,
    broker: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one's. Repeatable.")] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what was found; without it nothing is changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare our backups with those that the brokers have. 3: findings remain, 1: something could not be compared."""
    from deploy.cli.reconcile import reconcile as run

    settings = _settings_for("reconcile")
    chosen = {"instances": instance or None, "brokers": broker or None}
    raise typer.Exit(asyncio.run(run(settings, **chosen, fix=fix, as_json=as_json)))


@app.command()
def token(
    user: Annotated[str, typer.Option(help="The user's guid, which is the token's user_id.")],
    name: Annotated[str | None, typer.Option(help="The user's name; by default the guid.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="With the scopes of an administrator.")] = False,
    lifetime_s: Annotated[int, typer.Option(help="How long it is valid, in seconds.", min=1)] = 12 * 3600,
) -> None:
    """Sign a token for trying things out. Refused outside SAFEKEEP_ENVIRONMENT=development."""
    from shared.security.tokens import ADMIN_SCOPES, USER_SCOPES, DevelopmentTokens

    signer = DevelopmentTokens(_settings())
    print(signer.sign(user, name or user, ADMIN_SCOPES if admin else USER_SCOPES, lifetime_s))


@app.command()
def chaos(  # noqa: PLR0917 - typer calls it by keywords
    jobs: Annotated[int, typer.Option(help="How many backups.", min=1)] = 1000,
    workers: Annotated[int, typer.Option(help="How many worker processes; without --target.", min=1)] = 3,
    seed: Annotated[
        int | None, typer.Option(help="Draws the schedule; by default a new one, which is printed.")
    ] = None,
    limit_s: Annotated[
        float | None, typer.Option(help="Seconds for a job to end; by default 90, or 1800 with --target.", min=1)
    ] = None,
    spread_s: Annotated[
        float | None, typer.Option(help="Seconds over which POSTs and faults are spread; by default 0.25 a job.", min=1)
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report here, too, as JSON.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep logs and data of the run; without --target.")] = False,
    target: Annotated[str | None, typer.Option(help="URL of an installation that is allowed to be broken.")] = None,
    instance: Annotated[
        list[str] | None, typer.Option(help="With --target: guid of an instance to back up; may be repeated.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="With --target: a shell command that breaks something; may be repeated."),
    ] = None,
) -> None:
    """Break a stack while it works, and prove that nothing was lost, stuck, doubled or contradicting.

    Without --target it starts a stack of its own with a broker that is hard to talk to, kills, freezes and cuts off its
    parts, and asks the database and the broker's own ledger what happened. The exit code is 0 only if nothing is wrong.

    With --target it does the same to an installation that runs elsewhere, by its public API: set
    SAFEKEEP_ALLOW_CHAOS=true for its API, put a token into SAFEKEEP_CHAOS_TOKEN, name instances that nobody else backs
    up meanwhile, and give the faults as commands, such as --fault "kubectl delete pod -l app=safekeep-worker". An
    installation that does not say custom.chaos_allowed in its /v3/info is left alone, with exit code 2.
    """
    from deploy.cli.chaos import run_chaos

    raise typer.Exit(
        run_chaos(
            jobs=jobs,
            workers=workers,
            seed=seed,
            limit_s=limit_s,
            spread_s=spread_s,
            json_file=json_file,
            keeps=keep,
            target=target,
            instances=instance or (),
            faults=fault or (),
        )
    )


@app.command()
def settings() -> None:
    """Print the settings in force, secrets hidden, and what each one means."""
    from shared.environment import PREFIX
    from shared.settings import Settings

    values = _settings()
    for name, field in Settings.model_fields.items():
        print(f"# {field.description}\n{PREFIX}{name.upper()}={_shown(getattr(values, name))}")


def _settings() -> Settings:
    """The settings of the environment. Raises SettingsError."""
    from shared.settings import load_settings

    return load_settings()


def _settings_for(command: str) -> Settings:
    """The settings, after sending the log out of the way of what a command prints."""
    from shared.observability.logging import configure_logging

    settings = _settings()
    configure_logging(settings, command)
    return settings


def _shown(value: Any) -> str:  # Any: whatever type a setting has
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    return str(value)  # a SecretStr shows stars only


def main() -> None:
    """Run the command; an error that we foresaw is one plain message and exit code 1, or 2 for wrong settings."""
    from deploy.local.environment import adopt_environment

    adopt_environment()
    try:
        app()
    except SafekeepError as error:
        print(f"safekeep: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError) else 1)


if __name__ == "__main__":
    main()
