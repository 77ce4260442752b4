"""Endless events of a couple of hundred workflows, files and users: runs that end, begin again, and have stragglers."""

from dataclasses import dataclass
from random import Random

from core.runtime.clock import now
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import (
    AiProgress,
    AnalysisProgress,
    AnyEvent,
    Notification,
    Status,
    TemporalStatus,
    WorkflowProgress,
)

WORKFLOWS = 120
FILES = 50
USERS = 30


@dataclass
class _Run:
    """Where the current run of a topic is. Odd topics name their runs, the others begin anew at 0."""

    number: int
    count: int = 1
    progress: int = 0
    is_over: bool = False

    @property
    def run_id(self) -> str | None:
        return f"run {self.count}" if self.number % 2 else None

    def step(self, random: Random) -> int:
        """The next progress; after the end now and then a straggler, else another run."""
        if self.is_over and random.random() < 0.3:
            return 80
        if self.is_over:
            self.count, self.progress, self.is_over = self.count + 1, 0, False
            return 0
        self.progress = min(self.progress + random.choice([10, 25, 40]), 100)
        self.is_over = self.progress == 100
        return self.progress


class Stories:
    """Events, each with an id of its own that it also carries as its message."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._told = 0
        self._workflows = [_Run(number) for number in range(WORKFLOWS)]
        self._files = [_Run(number) for number in range(FILES)]

    def next(self) -> Envelope:
        """Another event."""
        self._told += 1
        event_id = f"e{self._told}"
        chance = self._random.random()
        if chance < 0.2:
            return self._of_a_file(event_id)
        if chance < 0.32:
            user = self._random.randrange(USERS)
            event = Notification(user_id=f"user {user}", title="Note", message=event_id)
            return Envelope(event_id=event_id, time=now(), event=event)
        return self._of_a_workflow(event_id, chance)

    def _of_a_file(self, event_id: str) -> Envelope:
        run = self._random.choice(self._files)
        progress = run.step(self._random)
        event = AnalysisProgress(file_id=f"file {run.number}", step="reading", progress=progress, message=event_id)
        return self._envelope(event_id, run, event)

    def _of_a_workflow(self, event_id: str, chance: float) -> Envelope:
        run = self._random.choice(self._workflows)
        workflow_id = f"workflow {run.number}"
        event: AnyEvent
        if chance < 0.47:
            event = AiProgress(workflow_id=workflow_id, step="summarise", delta="word ", message=event_id)
        elif chance < 0.5:
            status: Status = "completed" if run.is_over else "running"
            event = TemporalStatus(workflow_id=workflow_id, status=status, message=event_id)
        else:
            progress = run.step(self._random)
            error = "no" if progress == 100 and self._random.random() < 0.2 else None
            step = f"step {progress // 25}"
            event = WorkflowProgress(
                workflow_id=workflow_id, step=step, progress=progress, message=event_id, error=error
            )
        return self._envelope(event_id, run, event)

    @staticmethod
    def _envelope(event_id: str, run: _Run, event: AnyEvent) -> Envelope:
        owner = f"user {run.number % USERS}" if run.number % 5 else None
        return Envelope(event_id=event_id, run_id=run.run_id, user_id=owner, time=now(), event=event)
