"""When the messages of a simulated step are handed over."""

from __future__ import annotations

from dbgraph.plan.program import Instruction, Send
from dbgraph.simulate.lines import Lines
from dbgraph.simulate.trace import Trace


class Launches(Trace):
    """Notes when each message began to be handed over, too.

    Attributes:
        began_s: by (transfer, microbatch).
    """

    def __init__(self, machines: int) -> None:
        super().__init__(machines)
        self.began_s: dict[tuple[int, int], float] = {}

    def entered(self, lines: Lines, key: int, ready_s: float, begin_s: float) -> None:
        self.began_s.setdefault(divmod(key, lines.microbatches), ready_s)
        super().entered(lines, key, ready_s, begin_s)

    def did(
        self, machine: int, position: int, instruction: Instruction, start_s: float, stop_s: float
    ) -> None:
        if isinstance(instruction, Send):  # after it was launched
            self.began_s[instruction.transfer, instruction.microbatch] = start_s
        super().did(machine, position, instruction, start_s, stop_s)
