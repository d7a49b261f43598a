"""The reference of the command line, from the same texts that `burnish VERB --help` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.main import get_command

from burnish.cli import app
from tools.tables import code, heading, notice, sentence, table

_INTRODUCTION = """\
# Command line

Every verb prints the same text with `--help`. `-h` and `--help` are left out below. `--install-completion` installs
completion for your shell.
"""


def cli_page() -> str:
    """The Markdown page."""
    program: Any = get_command(app)
    parts = [
        notice("the help texts in burnish/cli"),
        _INTRODUCTION,
        f"\n{sentence(program.epilog)}\n",
    ]
    overview = [
        (f"[`{name}`](#burnish-{name})", _summary(verb)) for name, verb in program.commands.items()
    ]
    parts += ["\n", table(("verb", "purpose"), overview)]
    parts += [_verb(name, verb) for name, verb in program.commands.items()]
    return "".join(parts)


def _summary(verb: Any) -> str:
    return sentence((verb.help or "").partition("\n\n")[0])


def _verb(name: str, verb: Any) -> str:
    arguments = [parameter for parameter in verb.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in verb.params if parameter.param_type_name == "option"]
    usage = " ".join(
        ["burnish", name, *(["[OPTIONS]"] if options else []), *map(_place, arguments)]
    )
    parts = [
        heading(2, f"`burnish {name}`"),
        f"\n{sentence(verb.help or '')}\n",
        f"\n```text\n{usage}\n```\n",
    ]
    if arguments:
        rows = [(code(_name(argument)), sentence(argument.help or "")) for argument in arguments]
        parts += ["\n", table(("argument", "description"), rows)]
    if options:
        rows = [(_flags(option), sentence(_description(option))) for option in options]
        parts += ["\n", table(("option", "description"), rows)]
    return "".join(parts)


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).strip("[]").removesuffix("...")


def _place(argument: Any) -> str:
    name = _name(argument) + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _flags(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or _kind(option)}"
    return ", ".join(
        code(f"{flag}{value}" if flag.startswith("--") else flag) for flag in option.opts
    )


def _kind(option: Any) -> str:
    """A placeholder for an option's value: by its type, else the option's own name."""
    kinds = {Path: "PATH", int: "N", float: "NUMBER"}
    return kinds.get(option.type_descriptor.annotation) or str(option.opts[0]).lstrip("-").upper()


def _description(option: Any) -> str:
    text = sentence(option.help or "")
    if option.is_flag or option.default is None:
        return text
    return f"{text} Default: {code(str(option.default))}."
