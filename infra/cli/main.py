"""The command line of `agent`. Exit codes: infra/cli/failures.py and docs/cli.md."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from infra.cli import show
from infra.cli.failures import ANSWERED, FAILED, INTERRUPTED, USAGE, CliError, Wrong
from infra.cli.given import DEFAULT_SERVER, Given

if TYPE_CHECKING:
    from infra.cli.session import Conversation

F = TypeVar("F", bound=Callable[..., Any])
_SHELLS = ("bash", "zsh", "fish")


def connection(*, environment: bool) -> Callable[[F], F]:
    """The options that every command takes, before its name or after it. Those of the group also read the environment."""

    def option(name: str, variable: str, text: str) -> Callable[[F], F]:
        return click.option(
            f"--{name}",
            envvar=variable if environment else None,
            show_envvar=environment,
            expose_value=False,
            callback=_keep,
            help=text,
        )

    def add(command: F) -> F:
        for_programs = "One JSON object, for programs."
        command = click.option("--json", is_flag=True, expose_value=False, callback=_keep, help=for_programs)(command)
        command = option("config", "AGENT_CONFIG", "The config file.")(command)
        command = option("token", "AGENT_TOKEN", "The bearer token. Others may see flags: better the variable.")(command)
        command = option("user", "AGENT_USER", "Who asks; default: the token's subject, or the login name.")(command)
        return option("server", "AGENT_URL", f"The server's address; default: {DEFAULT_SERVER}.")(command)

    return add


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    if value:
        setattr(context.ensure_object(Given), str(parameter.name), value)
    return value


conversation_options: tuple[Callable[[Any], Any], ...] = (
    click.option("--session", "name", metavar="NAME", help="Continue the conversation NAME."),
    click.option("--new", is_flag=True, help="Begin another conversation, the current one from now on."),
    click.option(
        "--timeout",
        type=click.FloatRange(0, 86_400),
        default=300.0,
        show_default=True,
        help="Seconds to wait for the answer.",
    ),
)


def in_conversation(command: F) -> F:
    """The options of a command that asks."""
    for option in reversed(conversation_options):
        command = option(command)
    return command


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"agent {version('self-service-agent-common')}")
    except PackageNotFoundError:
        click.echo("agent (not installed)")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@connection(environment=True)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="The version.")
@click.pass_context
def agent(context: click.Context) -> None:
    """Ask the self-service agent from a terminal.

    Exit codes: 0 answered, 1 failed, 2 usage, 3 not allowed, 4 no answer (yet), 5 unknown, 130 Ctrl-C.
    """
    context.ensure_object(Given)


@agent.command()
@connection(environment=False)
@in_conversation
@click.option("--no-wait", is_flag=True, help="Do not wait for the answer; say the request's id.")
@click.option("--key", metavar="KEY", help="The Idempotency-Key: the same key is the same request.")
@click.argument("question", nargs=-1)
@click.pass_obj
def ask(
    given: Given, question: tuple[str, ...], name: str | None, new: bool, timeout: float, no_wait: bool, key: str | None
) -> int:
    """Ask QUESTION, or what comes through a pipe.

    A single - in QUESTION stands for standard input: agent ask "What does this mean?" - < error.log
    """
    content = _question(question)
    return _conversation(given, name, new).ask(content, timeout=timeout, wait=not no_wait, key=key, command="ask")


@agent.command()
@connection(environment=False)
@in_conversation
@click.pass_obj
def chat(given: Given, name: str | None, new: bool, timeout: float) -> int:
    """Converse, line by line. With --json one object a line.

    Ctrl-C stops waiting for an answer, not the agent's work; Ctrl-D ends.
    """
    from infra.cli.chat import Chat
    from infra.cli.settings import state_directory

    one = _conversation(given, name, new)
    return Chat(
        ask=lambda line: one.ask(line, timeout=timeout, wait=True, key=None, command="chat"),
        begin=one.begin,
        history=one.history,
        json=given.json,
    ).run(state_directory())


@agent.command()
@connection(environment=False)
@click.argument("session", required=False)
@click.pass_obj
def history(given: Given, session: str | None) -> int:
    """Show a conversation: SESSION is a session's id or a conversation's name; without it, the current one."""
    _conversation(given).history(session)
    return ANSWERED


@agent.command()
@connection(environment=False)
@click.option("--wait", type=click.FloatRange(0, 86_400), default=0.0, help="Seconds to wait for the answer.")
@click.argument("request_id", required=False)
@click.pass_obj
def status(given: Given, request_id: str | None, wait: float) -> int:
    """Show a request's state, and its answer if there is one; without REQUEST_ID, of the last request."""
    return _conversation(given).status(request_id, wait)


@agent.command()
@connection(environment=False)
@click.option("--html", metavar="FILE", help="Write it as a page, in one file that needs no other; - is standard output.")
@click.option("--database", is_flag=True, help="For operators: from the database of POSTGRES_*, whoever asked.")
@click.argument("request_id", required=False)
@click.pass_obj
def trace(given: Given, request_id: str | None, html: str | None, database: bool) -> int:
    """Show a request's way through the functions, with times; without REQUEST_ID, of the last request."""
    from infra.cli.tracing import trace

    trace(given.json, request_id, html, None if database else _conversation(given))
    return ANSWERED


@agent.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> int:
    """Print the completion script of SHELL: eval "$(agent completion bash)"."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise Wrong(f"there is no completion for {shell}")
    click.echo(found(agent, {}, "agent", "_AGENT_COMPLETE").source())
    return ANSWERED


def _conversation(given: Given, name: str | None = None, new: bool = False) -> Conversation:
    """Only a command that talks to the server pays for what that needs: `agent --help` is quick."""
    from infra.cli.session import Conversation
    from infra.cli.settings import resolve

    return Conversation(resolve(given), name, new)


def _question(words: Sequence[str]) -> str:
    if not words:
        if sys.stdin.isatty():
            raise Wrong('what is the question? agent ask "…", or through a pipe')
        words = ["-"]
    try:
        parts = [sys.stdin.buffer.read().decode() if word == "-" else word for word in words]
    except UnicodeDecodeError:
        raise Wrong("what came through the pipe is not UTF-8 text") from None
    content = (" " if "-" not in words else "\n\n").join(part.strip() for part in parts if part.strip())
    if not content:
        raise Wrong("the question is empty")
    return content


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code. What is wrong is said in one line, or with --json in one object."""
    given = Given()
    try:
        code = agent.main(list(arguments), prog_name="agent", standalone_mode=False, obj=given)
        return code if isinstance(code, int) else ANSWERED
    except CliError as error:
        _say(error.code, error.message, error.request_id, json=given.json)
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        if "--json" in arguments:
            _say("usage", error.format_message(), None, json=True)
        else:
            error.show()
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone; do not let the interpreter try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _say(code: str, message: str, request_id: str | None, *, json: bool) -> None:
    if json:
        error = {"code": code, "message": message, **({"request_id": request_id} if request_id else {})}
        show.document({"error": error})
    else:
        show.complain(message)


def main() -> NoReturn:
    """The console script `agent`."""
    sys.exit(run(sys.argv[1:]))
