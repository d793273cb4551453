"""The experiments by name."""

from functools import partial

from polyrank.reproduce import (
    byun_lee,
    byun_lee_page,
    catchup,
    catchup_page,
    codecs,
    fedhl,
    fedhl_page,
    frozen_head,
    frozen_head_page,
    grid,
    toy_trials,
)
from polyrank.reproduce.experiment import Experiment

EXPERIMENTS = {
    "byun-lee": Experiment(
        partial(grid.run, byun_lee.RECIPE), byun_lee.stages, byun_lee_page.section
    ),
    "fedhl": Experiment(partial(grid.run, fedhl.RECIPE), fedhl.stages, fedhl_page.section),
    "toy": Experiment(toy_trials.run, toy_trials.stages, toy_trials.section),
    "catchup": Experiment(
        partial(grid.run, catchup.RECIPE), catchup.stages, catchup_page.section, also="fedhl"
    ),
    "frozen-head": Experiment(
        partial(grid.run, frozen_head.RECIPE), frozen_head.stages, frozen_head_page.section
    ),
    "codecs": Experiment(partial(grid.run, codecs.RECIPE), codecs.stages, codecs.section),
}
