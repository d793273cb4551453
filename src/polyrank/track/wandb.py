"""Weights & Biases: a run there, or offline in `wandb/` of the run folder."""

import os
import shutil
from collections.abc import Mapping
from typing import Literal
from uuid import uuid4

import wandb

from polyrank.track.tracker import Subject, Tracker, keep, known

NAME = "wandb"


class Remote:
    """A run of W&B.

    A run that goes on offline is written anew from the records, in the place of what was there, so
    that one folder holds it all: nothing offline knows which rounds came before.
    """

    def __init__(self, subject: Subject) -> None:
        id = known(subject.folder, NAME)
        if id is None:
            keep(subject.folder, NAME, id := uuid4().hex)
        mode = _mode()
        offline = (mode or os.environ["WANDB_MODE"]) in ("offline", "dryrun")
        if offline:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # looks its host up even so
            for before in (subject.folder / "wandb").glob(f"offline-run-*-{id}"):
                shutil.rmtree(before)
        self.run = wandb.init(
            id=id,
            resume=None if offline else "allow",
            mode=mode,
            project=os.environ.get("WANDB_PROJECT", "polyrank"),
            name=os.environ.get("WANDB_NAME", subject.title),
            group=os.environ.get("WANDB_RUN_GROUP", subject.group),
            dir=str(subject.folder),
            config=dict(subject.recipe),
            reinit="create_new",  # beside a run of the caller's own
            settings=wandb.Settings(console="off", silent=True),
        )
        self.last: int = self.run.starting_step - 1

    def log(self, round: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=round, commit=True)

    def end(self, values: Mapping[str, float]) -> None:
        self.run.summary.update(dict(values))

    def close(self, complete: bool) -> None:
        self.run.finish(exit_code=0 if complete else 1)


def begin(subject: Subject) -> Tracker:
    """The run under its id; it is made where it is new."""
    return Remote(subject)


def _mode() -> Literal["online", "offline"] | None:
    """Online only where the user has said so; None: the library has its own word for it."""
    if os.environ.get("WANDB_MODE"):
        return None
    return "online" if "WANDB_API_KEY" in os.environ else "offline"
