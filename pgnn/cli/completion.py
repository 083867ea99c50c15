"""``pgnn completion``: words that a shell completes."""

from __future__ import annotations

import argparse
from functools import partial

from pgnn.cli.arguments import Commands, add_command

EXAMPLES = """\
  source <(pgnn completion bash)
  pgnn completion fish > ~/.config/fish/completions/pgnn.fish"""

BASH = """\
_pgnn() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} words
  case ${{COMP_WORDS[1]}} in
{cases}
    *) words="" ;;
  esac
  [ "$COMP_CWORD" -eq 1 ] && words="{commands}"
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [ "$COMP_CWORD" -gt 1 ] && COMPREPLY+=($(compgen -f -- "$word"))
}}
complete -o filenames -F _pgnn pgnn
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def add(commands: Commands) -> None:
    """Add the command; its output depends on all commands."""
    parser = add_command(
        commands,
        "completion",
        partial(_complete, commands),
        "print a script for shell completion",
        EXAMPLES,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def _complete(commands: Commands, options: argparse.Namespace) -> None:
    words = {name: _options(parser) for name, parser in commands.choices.items()}
    if options.shell == "fish":
        print("\n".join(_fish(words)))
        return
    cases = [f'    {name}) words="{" ".join(found)}" ;;' for name, found in words.items()]
    script = BASH.format(cases="\n".join(cases), commands=" ".join(words))
    print((ZSH if options.shell == "zsh" else "") + script, end="")


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [text for action in parser._actions for text in action.option_strings]


def _fish(words: dict[str, list[str]]) -> list[str]:
    lines = [f"complete -c pgnn -n __fish_use_subcommand -f -a '{' '.join(words)}'"]
    for name, found in words.items():
        for option in found:
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"complete -c pgnn -n '__fish_seen_subcommand_from {name}' {kind}")
    return lines
