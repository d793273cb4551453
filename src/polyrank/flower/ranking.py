"""The server's answer to nodes that state no rank: by the recipe's policy, from what they do state.

A budget is spent by their examples, what stated ranks cost taken off before; memory is theirs, in
the place of the recipe's `gib`; one number, a mix or a list is dealt to them in the order of names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from polyrank.client.memory import Profile
from polyrank.errors import MessageError, RecipeError
from polyrank.experiment.setup import Setup, step, unit
from polyrank.flower.stated import Stated
from polyrank.ranks import assign, by_budget, rounded_up
from polyrank.recipe import Recipe
from polyrank.recipe.policies import Budget, Memory

REMEDY = "give rank= in its node config"


@dataclass(frozen=True)
class Ranking:
    """A recipe's policy, and the model that it is applied to."""

    recipe: Recipe
    setup: Setup

    def first(self, sites: Sequence[Stated]) -> dict[str, int]:
        """The ranks of those that state none, by client, before the first round.

        Args:
            sites: all of them.

        Raises:
            MessageError: a site's memory is unknown, or too little.
            RecipeError: a budget that is too small, or a list of other ranks than these.
        """
        spec, own = self.recipe.lora.ranks, [s for s in sites if s.own]
        if isinstance(spec, Memory):
            return {s.client: self._fitting(spec, s) for s in sites if self._by_memory(s)}
        asking = [s for s in own if s.rank is None]
        if not asking:
            return {}
        if isinstance(spec, Budget):
            stated = sum(s.rank for s in own if s.rank is not None)
            found = self._shared(spec, [s.examples for s in asking], stated)
            return dict(zip([s.client for s in asking], found, strict=True))
        dealt = assign(spec, len(own), self.recipe.seed)
        return {s.client: rank for s, rank in zip(own, dealt, strict=True) if s.rank is None}

    def later(
        self, one: Stated, begun: Mapping[str, int], since: Mapping[str, int], most: int
    ) -> int | None:
        """The rank of one that comes later; None leaves one that was there as it is.

        Args:
            one: that states no rank.
            begun: the ranks of those who were there when the run began, by client.
            since: the ranks that clients have been asked for since then.
            most: the largest rank that there can be.

        Raises:
            MessageError: there is none for it.
        """
        spec, ranks = self.recipe.lora.ranks, {**begun, **since}
        known = one.client in ranks
        before = None if one.client in begun else since.get(one.client)
        if isinstance(spec, Memory):
            # What is free changes from day to day: that alone is no reason to begin anew.
            again = self._by_memory(one) and not (known and one.measured)
            return min(most, self._fitting(spec, one)) if again else before
        if known or not one.own:
            return before
        if isinstance(spec, tuple):
            raise MessageError(f"{one.site}: lora.ranks lists no rank for it; {REMEDY}")
        if not isinstance(spec, Budget):
            return min(most, *assign(spec, 1, self.recipe.seed))
        try:
            return min(most, *self._shared(spec, [one.examples], sum(ranks.values())))
        except RecipeError as error:
            raise MessageError(f"{one.site}: {error.problem}; {REMEDY}") from None

    def _by_memory(self, one: Stated) -> bool:
        """One of the recipe's own clients has the recipe's memory, unless its operator says."""
        return one.rank is None and (one.own or not one.measured)

    @cached_property
    def _needs(self) -> Profile:
        return step(self.recipe, self.setup)

    def _fitting(self, spec: Memory, one: Stated) -> int:
        if not one.memory:
            raise MessageError(
                f"{one.site} states neither rank nor memory; give one of them in its node config"
            )
        try:
            return self._needs.largest(one.memory / 1024, spec.most)
        except RecipeError as error:
            raise MessageError(f"{one.site}: {error.problem}") from None

    def _shared(self, spec: Budget, examples: Sequence[int], spent: int) -> list[int]:
        """The ranks that are paid for by what `spent` units of rank leave of the budget."""
        numbers, most, each = unit(self.recipe, self.setup)
        mb = numbers * each / 10**6
        if spec.mb < (spent + len(examples)) * mb:
            least = rounded_up(Decimal((spent + len(examples)) * mb))
            raise RecipeError(
                "lora.ranks.mb",
                f"{spec.mb:g} MB is too little for ranks of {spent} in all that sites have, and "
                f"rank 1 at {len(examples)} more; the smallest that works is {least} MB",
            )
        left = spec.model_copy(update={"mb": spec.mb - spent * mb})
        return by_budget(left, examples, numbers, most, each)
