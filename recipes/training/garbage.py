"""Python's search for garbage while a model trains: between two steps, and only now and then."""

import gc

EVERY = 1000  # steps


class RestingCollector:
    """Keeps Python from searching for garbage in the middle of a step, which takes it some 500 ms on a large model.

    After the first step, all that the run has built is set aside (`gc.freeze`), so that later searches, every `EVERY`
    steps and after evaluations, are short. Whatever ends the run puts everything back: after running out of memory, a
    model that is being replaced must be found.
    """

    def __enter__(self) -> "RestingCollector":
        self.steps, self.was_enabled = 0, gc.isenabled()
        return self

    def __exit__(self, *exception: object) -> None:
        gc.unfreeze()
        if self.was_enabled:
            gc.enable()

    def step(self) -> None:
        """To be called after every step."""
        if self.steps % EVERY == 0:
            gc.collect()
        if self.steps == 0:
            gc.freeze()
            gc.disable()
        self.steps += 1
