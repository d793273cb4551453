"""MLflow: a run at its tracking server, or in `mlflow/mlflow.db` of the run folder."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

# Read when it is imported. It would tell its makers that it is used, and us of its tables.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from polyrank.track.numbers import flat
from polyrank.track.tracker import Subject, Tracker, keep, known
from polyrank.version import __version__

ROUND = "round/seconds"  # what every round has
LONGEST = 6000  # characters of a parameter
MOST = 100  # parameters in a request


class Server:
    """A run of MLflow. A round is one request, and in a database one transaction."""

    def __init__(self, subject: Subject) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        name = "mlflow" if uri else "mlflow, here"  # each knows the run by an id of its own
        here = subject.folder.resolve() / "mlflow"
        if not uri:
            here.mkdir(exist_ok=True)
        self.client = MlflowClient(tracking_uri=uri or f"sqlite:///{here / 'mlflow.db'}")
        id = known(subject.folder, name)
        if id is None:
            id = self._create(subject, None if uri else (here / "artifacts").as_uri())
            keep(subject.folder, name, id)
        self.id = id
        self.client.update_run(id, status="RUNNING")
        rounds = self.client.get_metric_history(id, ROUND)
        self.last: int = max((m.step for m in rounds), default=-1)
        self.latest = self.last

    def log(self, round: int, values: Mapping[str, float]) -> None:
        self.latest = round
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, round) for key, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def end(self, values: Mapping[str, float]) -> None:
        there = self.client.get_run(self.id).data.metrics
        self.log(self.latest, {key: v for key, v in values.items() if key not in there})

    def close(self, complete: bool) -> None:
        self.client.set_terminated(self.id, "FINISHED" if complete else "KILLED")

    def _create(self, subject: Subject, artifacts: str | None) -> str:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or self._experiment(artifacts)
        tags = {"group": subject.group, "polyrank": __version__}
        run = self.client.create_run(experiment, tags=tags, run_name=subject.title)
        id: str = run.info.run_id
        params = [Param(key, _text(v)[:LONGEST]) for key, v in flat(subject.recipe).items()]
        for first in range(0, len(params), MOST):
            self.client.log_batch(id, params=params[first : first + MOST])
        return id

    def _experiment(self, artifacts: str | None) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "polyrank")
        found = self.client.get_experiment_by_name(name)
        id: str = found.experiment_id if found else self.client.create_experiment(name, artifacts)
        return id


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def begin(subject: Subject) -> Tracker:
    """The run under its id; it is made, with its parameters, where it is new."""
    return Server(subject)
