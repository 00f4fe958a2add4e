"""`etcdctl endpoint health`, `status` and `hashkv`. Source: etcdctl ep_command.go."""

from __future__ import annotations

import time

from balsad.client import messages as m
from balsad.client.client import Client
from balsad.ctl.commands.members import cluster_endpoints
from balsad.ctl.console import EXIT_ERROR, Exit, Failure
from balsad.ctl.context import ClientSettings, Context
from balsad.ctl.printers.base import Health
from balsad.durations import format_duration

_ALARMS = {m.ALARM_NOSPACE: "NOSPACE ", m.ALARM_CORRUPT: "CORRUPT "}


def health(context: Context, args: list[str]) -> None:
    context.read_environment()
    context.set_printer()
    context.check_file_flags()
    user, password = context.user_and_password()
    base = context.settings_without_user()
    found: list[Health] = []
    tasks = []
    for endpoint in cluster_endpoints(context):
        settings = ClientSettings()
        settings.endpoints = [endpoint]
        settings.user, settings.password = user, password
        settings.tls = base.tls
        settings.server_name = base.server_name
        settings.dial_timeout_s = base.dial_timeout_s
        settings.keepalive_time_s = base.keepalive_time_s
        settings.keepalive_timeout_s = base.keepalive_timeout_s
        tasks.append(context.loop.create_task(_ask_health(context, settings, found)))
    for task in tasks:
        context.loop.run(task)
    context.printer.endpoint_health(found)
    if any(one.error for one in found):
        raise Failure(EXIT_ERROR, "unhealthy cluster")


async def _ask_health(context: Context, settings: ClientSettings, found: list[Health]) -> None:
    """Read some key: an answer went through consensus. Then ask for alarms."""
    from balsad.errors import PermissionDeniedError, RequestError

    endpoint = settings.endpoints[0]
    client = context.make_client(settings)
    try:
        if settings.user and settings.password:
            try:
                await client.connect()
            except RequestError as error:
                found.append(Health(endpoint, is_healthy=False, error=str(error)))
                return
        timeout = context.flags.seconds("command-timeout")
        began = time.perf_counter_ns()
        deadline = context.loop.time() + timeout
        error_text = ""
        try:
            await client.kv.get("health", timeout=timeout)
        except PermissionDeniedError:
            # The refusal went through consensus too.
            pass
        except RequestError as error:
            error_text = str(error)
            context.check_refusal(error)
        took = format_duration(time.perf_counter_ns() - began)
        if not error_text:
            error_text = await _active_alarms(client, max(0.0, deadline - context.loop.time()))
        found.append(Health(endpoint, is_healthy=not error_text, took=took, error=error_text))
    finally:
        await client.close()


async def _active_alarms(client: Client, timeout: float) -> str:
    from balsad.errors import RequestError

    try:
        alarms = (await client.maintenance.alarms(timeout=timeout)).alarms
    except RequestError:
        return "Unable to fetch the alarm list"
    if not alarms:
        return ""
    return "Active Alarm(s): " + "".join(_ALARMS.get(alarm.alarm, "UNKNOWN ") for alarm in alarms)


def status(context: Context, args: list[str]) -> None:
    client = context.client()
    found: list[tuple[str, m.StatusResponse]] = []
    failed = False
    for endpoint in cluster_endpoints(context):
        one = client.only(endpoint)
        context.start_timeout()
        try:
            found.append((endpoint, context.loop.run(one.maintenance.status(timeout=context.left))))
        except Exception as error:
            context.check_refusal(error)
            failed = True
            context.console.error(f"Failed to get the status of endpoint {endpoint} ({error})")
        context.call(one.close())
    context.printer.endpoint_status(found)
    if failed:
        raise Exit(EXIT_ERROR)


def hashkv(context: Context, args: list[str]) -> None:
    client = context.client()
    found: list[tuple[str, m.HashKVResponse]] = []
    failure: Exception | None = None
    for endpoint in cluster_endpoints(context):
        one = client.only(endpoint)
        context.start_timeout()
        try:
            revision = context.flags.number("rev")
            found.append((endpoint, context.loop.run(one.maintenance.hash_kv(revision, timeout=context.left))))
        except Exception as error:
            context.check_refusal(error)
            failure = error
            context.console.error(f"Failed to get the hash of endpoint {endpoint} ({error})")
        context.call(one.close())
    context.printer.endpoint_hash_kv(found)
    if failure is not None:
        raise Failure(EXIT_ERROR, failure)
