"""`mizzen`: finds the verb, imports only its module, and turns every failure into one clear line.

A verb is a module of this package with a click command named `command`; `VERBS` is the table of contents.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mizzen import __version__
from mizzen.cli import exits, talk
from mizzen.cli.groups import Group

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Verb(NamedTuple):
    module: str
    summary: str
    section: str = ""
    """Empty: an alias or a hidden verb, not shown in help."""


START, MESH, LOOK, MORE = "Start", "The mesh", "Look inside", "More"

VERBS: dict[str, Verb] = {
    "demo": Verb("demo", "Cluster, mesh, Bookinfo and traffic in one go", START),
    "up": Verb("up", "Start the cluster and install the mesh", START),
    "down": Verb("down", "Stop everything and leave the machine clean", START),
    "status": Verb("status", "What runs, and what is wrong with it", START),
    "env": Verb("env", "Shell lines that point kubectl, istioctl and minikube here", START),
    "doctor": Verb("doctor", "What this machine lacks, each with its cure", START),
    "install": Verb("install", "Install or change the mesh in a cluster", MESH),
    "apply": Verb("install", "Alias of install"),
    "uninstall": Verb("uninstall", "Remove the mesh from a cluster", MESH),
    "manifest": Verb("manifest", "Print what install would apply", MESH),
    "kube-inject": Verb("kube_inject", "Add sidecars to YAML", MESH),
    "validate": Verb("validate", "Check YAML before it is applied", MESH),
    "v": Verb("validate", "Alias of validate"),
    "proxy-status": Verb("proxy_status", "Which proxies are in sync", LOOK),
    "ps": Verb("proxy_status", "Alias of proxy-status"),
    "proxy-config": Verb("proxy_config", "What a proxy was told: clusters, listeners, routes, endpoints", LOOK),
    "pc": Verb("proxy_config", "Alias of proxy-config"),
    "describe": Verb("describe", "What concerns a Pod or a Service: rules, routes, policies, mTLS", LOOK),
    "tls-check": Verb("tls_check", "Who talks to whom, in mutual TLS or in plain text", LOOK),
    "ca": Verb("ca", "root, rotate: who signs for the mesh, and one root after another", LOOK),
    "dashboard": Verb("dashboard", "Open a proxy's admin page", LOOK),
    "dash": Verb("dashboard", "Alias of dashboard"),
    "d": Verb("dashboard", "Alias of dashboard"),
    "version": Verb("version", "Versions of client, control plane and proxies", LOOK),
    "cluster": Verb("cluster", "start, stop, status, delete: the bare cluster", MORE),
    "ip": Verb("ip", "The cluster's address", MORE),
    "url": Verb("url", "Where a gateway answers", MORE),
    "image": Verb("image", "add, list, rm: what an image name runs on this machine", MORE),
    "samples": Verb("samples", "list, path, export: Bookinfo and friends", MORE),
    "completion": Verb("completion", "Tab completion for bash, zsh and fish", MORE),
    "minikube": Verb("minikube", "Answers for minikube in tutorials"),
    "x": Verb("experimental", "What istioctl keeps there: authz check, describe", LOOK),
    "experimental": Verb("experimental", "Alias of x"),
    "exp": Verb("experimental", "Alias of x"),
    "help": Verb("help", "What a command does"),
}
_LATER = "docs/differences.md says what is there and what comes later"
LATER = dict.fromkeys(
    (
        *("analyze", "upgrade", "bug-report", "tag", "waypoint", "ztunnel-config", "zc", "create-remote-secret"),
        *("remote-clusters", "admin", "istiod", "verify-install", "authz"),
    ),
    _LATER,
)

WELCOME = """\
Mizzen runs an Istio service mesh on this machine. New here? Type

  mizzen demo                 a cluster, the mesh, Bookinfo and traffic, in about 20 seconds
  mizzen up                   only the cluster and the mesh
  eval "$(mizzen env)"        then kubectl, istioctl and minikube work as in any Istio tutorial
  mizzen down                 stop everything and leave the machine clean

mizzen --help lists every command.
"""


class Verbs(Group):
    """A group that imports a verb's module only when that verb is used."""

    later = LATER

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        command = import_module(f"mizzen.cli.{verb.module}").command
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """From the table alone: completion must not import every verb."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        shown = {name: verb for name, verb in VERBS.items() if verb.section and name.startswith(incomplete)}
        return [CompletionItem(name, help=verb.summary) for name, verb in shown.items()]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in (START, MESH, LOOK, MORE):
            with formatter.section(section):
                formatter.write_dl([(name, verb.summary) for name, verb in VERBS.items() if verb.section == section])


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


@click.command(cls=Verbs, invoke_without_command=True, context_settings=SETTINGS)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-c", "--kubeconfig", metavar="FILE", help="As with every command that asks a cluster.", hidden=True)
@click.option("--context", metavar="NAME", hidden=True)
@click.option("-n", "--namespace", metavar="NS", hidden=True)
@click.option("-i", "--istioNamespace", "istio_namespace", metavar="NS", hidden=True)
@click.version_option(__version__, message="%(version)s")
@click.pass_context
def command(ctx: click.Context, /, debug: bool, **given: Any) -> None:
    """A service mesh that speaks Istio and runs real Envoy."""
    ctx.obj = {key: value for key, value in given.items() if value is not None}
    if ctx.invoked_subcommand is None:
        click.echo(WELCOME, nl=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit codes: 0, 1 for a failure, 64 for wrong usage, 130 for Ctrl-C."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Like `main`, but hands the exit code back."""
    from mizzen.cli.arguments import normal

    given = list(normal(arguments))
    debug = "--debug" in given or bool(os.environ.get("MIZZEN_DEBUG"))
    try:
        given = [argument for argument in given if argument != "--debug"]
        return command.main(given, prog_name="mizzen", standalone_mode=False) or exits.OK
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return exits.OK
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.UsageError as error:
        return fail(error.format_message(), usage_hint(error), exits.USAGE)
    except (click.Abort, KeyboardInterrupt):
        talk.say("interrupted; `mizzen status` says what runs")
        return exits.INTERRUPTED
    except SystemExit:  # click's own way out: completion is done, or nobody reads on
        return exits.OK
    except Exception as error:
        if debug:
            raise
        return explain(error)


def usage_hint(error: click.UsageError) -> str:
    return f"`{error.ctx.command_path} --help` shows how" if error.ctx else ""


def explain(error: Exception) -> int:
    """One line of what went wrong and one of what to do, for whatever a verb raised."""
    if isinstance(error, click.ClickException):
        return fail(error.format_message(), "")
    if not isinstance(error, exits.Failure):
        from mizzen.cli.failures import failure_of

        error = failure_of(error)
    return fail(error.message, error.hint, error.code)


def fail(message: str, hint: str, code: int = exits.FAILED) -> int:
    talk.error(message)
    if hint:
        click.echo(f"  {hint}", err=True)
    return code
