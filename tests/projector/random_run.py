"""Events of a busy day, the same for the same seed."""

from collections.abc import Iterator
from random import Random

from tests.core.telling import Told, ai, analysis, notice, step, temporal


def random_run(seed: int, count: int) -> Iterator[Told]:
    """``count`` events of a few workflows, files and users: runs that end, begin anew, and events that come late."""
    random = Random(seed)
    for _ in range(count):
        of = f"id {random.randrange(8)}"
        run = random.choice([None, "a", "b"])
        user = random.choice([None, "ada", "bob"])
        progress = random.choice([0, 25, 50, 75, 100])
        told = random.choice(
            [
                step(progress, f"step {progress}", of=of, run=run),
                step(progress, of=of, run=run, error=random.choice([None, "no"])),
                analysis(progress, f"step {progress}", of=of, run=run, result={"seed": seed}),
                ai("text", of=of, run=run),
                temporal(random.choice(["running", "completed", "failed"]), of=of, run=run),
                notice("hello", of=user or "ada"),
            ]
        )
        yield Told(told.event, told.run, user)
