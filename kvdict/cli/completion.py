"""`kvdict completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from kvdict.cli.command import command

VARIABLE = "_KVDICT_COMPLETE"


@command(
    "completion",
    examples='eval "$(kvdict completion bash)"      # in ~/.bashrc\n'
    'eval "$(kvdict completion zsh)"       # in ~/.zshrc, after compinit\n'
    "kvdict completion fish > ~/.config/fish/completions/kvdict.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Write a shell's completion script."""
    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(context.find_root().command, {}, "kvdict", VARIABLE).source())
