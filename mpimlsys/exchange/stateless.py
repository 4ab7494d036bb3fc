"""What exchanges have in common that keep nothing between steps, and have nothing to tell."""

from __future__ import annotations

from collections.abc import Mapping

from mpimlsys.errors import ConfigError
from mpimlsys.types import Array, State


class Stateless:
    """The parts of :class:`mpimlsys.types.Exchange` that are empty for most exchanges.

    Attributes:
        kind: as job files say it.
        approximate: whether the ranks' parameters are to be gathered before they are used.
    """

    kind = ""
    approximate = False

    def note_loss(self, loss: float) -> None:
        """Learn the global loss of the step whose exchange has finished."""

    def news(self) -> list[str]:
        """What the user should know, said once."""
        return []

    def staleness(self) -> list[int] | None:
        """Of parameters that servers gave in the last step; None: they are always new."""
        return None

    def state_dict(self) -> State:
        """What all ranks have alike: nothing."""
        return {}

    def own_state_dict(self) -> State | None:
        """What each rank has of its own: nothing."""
        return None

    def handed_out(
        self,
        own: Mapping[str, Array],  # noqa: ARG002
        state: Mapping[str, Array],  # noqa: ARG002
        rank: int,  # noqa: ARG002
    ) -> State:
        """What a rank needs of all ranks' own states: nothing."""
        return {}

    def load_state_dict(
        self,
        state: Mapping[str, Array],
        own: Mapping[str, Array],  # noqa: ARG002
    ) -> None:
        """Accepts only the empty state."""
        if state:
            raise ConfigError(
                f"this checkpoint holds exchange state ({', '.join(sorted(state))}) that "
                f"exchange.kind = {self.kind!r} does not know; use the job it was written with."
            )
