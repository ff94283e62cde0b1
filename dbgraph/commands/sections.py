"""A command whose help shows its options in sections."""

from __future__ import annotations

from typing import Any

import click


class SectionOption(click.Option):
    """An option that belongs to a section of the help."""

    def __init__(self, *args: Any, section: str = "", **more: Any) -> None:
        super().__init__(*args, **more)
        self.section = section


class SectionCommand(click.Command):
    """Shows the options without a section first, then section by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                sections.setdefault(getattr(parameter, "section", ""), []).append(row)
        for section, rows in sections.items():
            with formatter.section(section or "Options"):
                formatter.write_dl(rows)
