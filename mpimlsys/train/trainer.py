"""The training step: forward, backward with the exchange beside it, update.

The loop knows an :class:`~mpimlsys.types.Exchange` and nothing of what is behind it. Everything
that must survive a restart is in ``state_dict()``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np

from mpimlsys import context
from mpimlsys.context import Context, raise_together
from mpimlsys.data import ArrayDataset, Prefetcher, epoch_order, shard, steps_per_epoch
from mpimlsys.errors import ConfigError, Diverged, MpimlsysError
from mpimlsys.exchange import AllReduce, ParameterServers
from mpimlsys.kernels.arrays import fill, to_host
from mpimlsys.nn import FlatSpace, Module
from mpimlsys.nn.losses import Number
from mpimlsys.optim import clip_by_global_norm
from mpimlsys.train.ballot import Ballots, estimate
from mpimlsys.train.combination import exchange_for
from mpimlsys.train.compute import Compute, out_of_memory
from mpimlsys.train.diagnose import diverged, first_nonfinite, nonfinite_parameter
from mpimlsys.train.passes import Passes, parts
from mpimlsys.train.progress import Progress
from mpimlsys.train.report import Clock, Evaluation, Intentions, StepReport
from mpimlsys.train.signals import STOP_SIGNALS
from mpimlsys.types import Array, Bucket, Dataset, Exchange, IntArray, Phase, State

# what the ranks add up beside the gradients: the loss, and votes
_LOSS, _FAILED, _CHECKPOINT, _WRITTEN, _STOP = range(5)
_BALLOT = _STOP + len(STOP_SIGNALS)


class Trainer:
    """Trains a model on all workers; every worker holds the same parameters after each step.

    Args:
        model: a :class:`~mpimlsys.nn.Module`.
        optimizer: such as ``mls.optim.sgd(0.05, momentum=0.9)``.
        exchange: how gradients are combined.
        loss: such as ``mls.nn.CrossEntropyLoss()``; by default ``model.loss``.
        schedule: factor of the learning rate as a function of the step, constant by default.
        clip_norm: largest global norm of the gradient, 0 for no limit.
        accumulate: forward and backward passes that share a step's batch.
        dtype: ``"float32"`` or ``"float64"``.
        seed: of initialisation, shuffling and dropout.
        bucket_bytes: gradients are exchanged in pieces of about this size.
        device: ``"cpu"``, or ``"cuda"``: each rank of a node computes on the GPU of its number.
        precision: ``"bf16"`` or ``"fp16"`` for layers of 16 bits, by default ``"float32"``.

    Raises:
        ConfigError: the model has no parameters or no loss, there is no such device.

    Example:
        >>> trainer = Trainer(nn.models.build("mlp", ...), optimizer=optim.sgd(0.1))
        >>> trainer.fit((images, labels), epochs=3, batch_size=64)
    """

    def __init__(
        self,
        model: Module,
        *,
        optimizer: Any,
        exchange: AllReduce | ParameterServers | None = None,
        loss: Any = None,
        schedule: Callable[[int], float] | None = None,
        clip_norm: float = 0.0,
        accumulate: int = 1,
        dtype: str = "float32",
        seed: int = 0,
        bucket_bytes: int = 1 << 20,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        self.context: Context = context.init().among_peers()
        self.model = model
        self.loss: Any = loss if loss is not None else model.loss
        if self.loss is None:
            raise ConfigError(
                "the trainer needs a loss: pass loss=mls.nn.CrossEntropyLoss() or set model.loss."
            )
        self.optimizer = optimizer
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.seed = seed
        self.steps_done = 0
        ctx = self.context
        with ctx.together():
            how = exchange_for(
                exchange or AllReduce(seed=seed),
                optimizer,
                clip_norm=clip_norm,
                dtype=dtype,
                device=device,
                precision=precision,
            )
            self.compute = Compute(ctx, device, precision)
        self.space = FlatSpace(
            model,
            dtype,
            allocate=self.compute.empty,
            bucket_bytes=bucket_bytes,
            half=self.compute.half,
        )
        self.space.initialise(seed)
        parameters = to_host(self.space.parameters)
        ctx.native.broadcast(ctx.peers.transport, parameters, 0, timeout_s=ctx.timeout_s)
        fill(self.space.parameters, parameters)
        optimizer.bind(self.space.parameters, self.space.segments)
        self._prepare = getattr(optimizer, "prepare", None)
        self._passes = Passes(model, self.loss, self.space, self.compute)
        self.exchange: Exchange = how.open(
            ctx,
            self.space.buckets,
            self.space.segments,
            parameters=self.space.parameters,
            optimizer=optimizer,
        )
        self._ballots = Ballots(ctx, self.exchange.lag)
        self._failure: MpimlsysError | None = None
        self._heard_from = 0  # the step from which on wishes are still to be heard

    def fit(
        self,
        dataset: Dataset | tuple[Array, Array],
        *,
        epochs: int = 1,
        batch_size: int = 64,
        max_steps: int = 0,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> list[StepReport]:
        """Train, and show how far it is on rank 0. Collective over the workers.

        Args:
            dataset: a :class:`~mpimlsys.types.Dataset` or ``(inputs, targets)`` arrays, the same
                on all ranks; each rank works on its own share.
            epochs: passes over the data.
            batch_size: samples per step over all workers; 0 takes the whole set.
            max_steps: end early, 0 for no limit.
            on_step: called after each step on every rank.

        Returns:
            One report per step.

        Raises:
            Diverged: the loss is no longer finite; names the step, rank and layer.
            ConfigError: too few samples, labels out of range.
        """
        data = _dataset(dataset)
        total = total_steps(len(data), batch_size, epochs, max_steps)
        progress = Progress() if self.context.is_root else None
        if progress is not None:
            progress.start(total, self.steps_done, epochs)
        reports = []
        try:
            for report in self.steps(data, total=total, batch_size=batch_size):
                reports.append(report)
                if progress is not None:
                    progress.step(report.step, report.epoch, report.loss, report.samples)
                if on_step is not None:
                    on_step(report)
        finally:
            if progress is not None:
                progress.close()
        return reports

    def steps(
        self,
        dataset: Dataset,
        *,
        total: int,
        batch_size: int,
        intentions: Callable[[], Intentions] = Intentions,
    ) -> Generator[StepReport, None, None]:
        """Run the steps from ``steps_done`` to ``total``, yielding after each; see :meth:`fit`.

        Args:
            dataset: the training samples.
            total: steps of the whole run, see :func:`total_steps`.
            batch_size: as for :meth:`fit`.
            intentions: asked on each rank at each step.
        """
        count, workers = len(dataset), self.context.group.size
        if count < workers:
            raise ConfigError(
                f"{count} training samples cannot be shared by {workers} workers; start at most "
                f"{count} ranks."
            )
        batch_size = min(batch_size or count, count)
        per_epoch = steps_per_epoch(count, batch_size)
        plan = self._plan(count, batch_size, per_epoch, total)
        with Prefetcher(dataset, plan) as batches:
            for step in range(self.steps_done, total):
                epoch, in_epoch = divmod(step, per_epoch)
                samples = min(batch_size, count - in_epoch * batch_size)
                last = in_epoch + 1 == per_epoch
                yield self._step(batches, samples, epoch, last, intentions)
        self.settle()

    def settle(self) -> None:
        """Count what is still to be counted of the last steps. Collective over the workers.

        Raises:
            Diverged: the loss of one of them is not finite.
        """
        for ballot in self._ballots.rest():
            self._judge(ballot, np.empty(0))
        self.exchange.gather()

    def evaluate(self, dataset: Dataset | tuple[Array, Array]) -> Evaluation:
        """Loss and measure over ``dataset``, shared among the workers. Collective.

        Raises:
            ConfigError: the set is empty, labels are out of range.
        """
        data = _dataset(dataset)
        ctx, started = self.context, perf_counter()
        if self.exchange.approximate:
            self.exchange.gather()
        if len(data) == 0:
            raise ConfigError("there is nothing to evaluate: the data set is empty.")
        sums = np.zeros(3)
        failure: MpimlsysError | None = None
        share = shard(np.arange(len(data)), 0, len(data), ctx.group.rank, ctx.group.size)
        try:
            sums = self._passes.measured(data, share, self._phase(training=False))
        except MpimlsysError as error:
            failure = error
        raise_together(ctx, failure)
        ctx.native.all_reduce(ctx.peers.transport, sums, "sum", timeout_s=ctx.timeout_s)
        ctx.trace.add("evaluation", started, perf_counter())
        return Evaluation(
            float(sums[0]), float(sums[1] / sums[2]), self.loss.measure_name, len(data)
        )

    def predict(self, inputs: Array) -> Array:
        """The model's outputs for ``inputs``, without communication.

        Args:
            inputs: (samples, ...) of the shape the model was trained on.

        Returns:
            (samples, ...) outputs: scores, not probabilities, for a classifier.
        """
        return self._passes.predicted(inputs, self._phase(training=False))

    def state_dict(self) -> State:
        """Everything that the next step depends on, by name; arrays are views, on the device."""
        state = {f"parameter.{name}": value for name, value in self.space.state_dict().items()}
        for part, owner in (("optimizer", self.optimizer), ("exchange", self.exchange)):
            state |= {f"{part}.{name}": value for name, value in owner.state_dict().items()}
        state["trainer.steps_done"] = np.array(self.steps_done, np.int64)
        if scale := self.compute.scale:
            state |= {f"trainer.{name}": value for name, value in scale.state_dict().items()}
        return state

    def own_state_dict(self) -> State | None:
        """The same of what each rank has of its own; None on all ranks if there is nothing."""
        own = self.exchange.own_state_dict()
        return None if own is None else {f"exchange.{name}": value for name, value in own.items()}

    def handed_out(self, own: Mapping[str, Array], state: Mapping[str, Array], rank: int) -> State:
        """What ``rank`` needs of every rank's :meth:`own_state_dict`, and :meth:`state_dict`."""
        part = self.exchange.handed_out(_within("exchange", own), _within("exchange", state), rank)
        return {f"exchange.{name}": value for name, value in part.items()}

    def load_state_dict(
        self, state: Mapping[str, Array], own: Mapping[str, Array] = MappingProxyType({})
    ) -> None:
        """Take over what :meth:`state_dict` returned, and :meth:`handed_out` for this rank.

        Raises:
            ConfigError: the state belongs to another model or optimiser.
        """
        self.space.load_state_dict(_within("parameter", state))
        self.optimizer.load_state_dict(_within("optimizer", state))
        self.exchange.load_state_dict(_within("exchange", state), _within("exchange", own))
        self.steps_done = int(state["trainer.steps_done"])
        if scale := self.compute.scale:
            scale.load_state_dict(_within("trainer", state))

    def check_finite(self) -> None:
        """Check that the parameters may be kept. Local; equal on all ranks.

        Raises:
            Diverged: one is not finite; names it.
        """
        place = nonfinite_parameter(self.space)
        if place:
            raise Diverged(
                f"after step {self.steps_done} not finite: {place}. Try a lower learning rate "
                f"(optimizer.lr is {self.optimizer.lr:g})."
            )

    def close(self) -> None:
        """Stop the background threads."""
        self._ballots.close()
        self.exchange.close()

    def _plan(self, count: int, batch_size: int, per_epoch: int, total: int) -> Iterator[IntArray]:
        group = self.context.group
        order = np.empty(0, np.int64)
        for step in range(self.steps_done, total):
            epoch, in_epoch = divmod(step, per_epoch)
            if in_epoch == 0 or len(order) == 0:
                order = epoch_order(count, epoch, self.seed)
            yield shard(order, in_epoch, batch_size, group.rank, group.size)

    def _step(
        self,
        batches: Iterator[tuple[Array, Array]],
        samples: int,
        epoch: int,
        epoch_end: bool,
        intentions: Callable[[], Intentions],
    ) -> StepReport:
        ctx, space = self.context, self.space
        clock = Clock(ctx.trace)
        wish = intentions()
        self._failure = self._failure or wish.failure
        factor = self.schedule(self.steps_done) if self.schedule else 1.0
        lr = self.optimizer.lr * factor
        space.zero_gradients()
        space.reset()
        self.exchange.begin_step(lr)
        begun: set[int] = set()
        ballot = np.zeros(_BALLOT, np.float64)
        inputs, targets = np.empty(0), np.empty(0)
        loss: Number = 0.0
        try:
            inputs, targets = next(batches)
            clock.lap("data")
            with np.errstate(over="ignore", invalid="ignore"):  # the loss tells, and is explained
                loss = self._forward_backward(inputs, targets, samples, begun, clock)
        except MpimlsysError as error:
            self._failure = self._failure or error
        except MemoryError as error:
            self._failure = self._failure or out_of_memory(error)
        for bucket in space.buckets:
            # a rank without samples, or with an error, takes part with what it has
            if bucket.index not in begun:
                self._begin(bucket)
        self.exchange.finish()
        to_read: list[Any] = [loss]
        if self.compute.scale:
            to_read.append(np.isfinite(space.gradients).all())
        # the only place where a step waits for the device, unless its exchange does
        ballot[_LOSS], *finite = self.compute.read(*to_read)
        if not self.compute.is_host and not np.isfinite(ballot[_LOSS]):
            try:
                self._passes.check(inputs, targets, self._phase(training=True))
            except MpimlsysError as error:
                self._failure = self._failure or error
        ballot[_FAILED] = self._failure is not None
        ballot[_CHECKPOINT] = wish.checkpoint
        ballot[_WRITTEN] = wish.written
        if wish.stop_signal:
            ballot[_STOP + STOP_SIGNALS.index(wish.stop_signal)] = 1
        counted = self._ballots.cast(ballot)
        clock.lap("exchange")
        if counted is None:
            ballot = estimate(ballot, ctx.group.size)
        else:
            ballot = counted
            self._judge(ballot, inputs)
        if self.steps_done - self._ballots.lag < self._heard_from:
            ballot[[_CHECKPOINT, _WRITTEN]] = 0  # from before the last one was heard
        written = int(ballot[_WRITTEN]) == ctx.group.size
        if written or ballot[_CHECKPOINT]:
            self._heard_from = self.steps_done + 1
        self.exchange.note_loss(float(ballot[_LOSS]))
        if not self.exchange.updates_parameters and self._may_update(finite, lr):
            if self.clip_norm:
                clip_by_global_norm(space.gradients, self.clip_norm)
            self.optimizer.step(space.parameters, space.gradients, lr)
        clock.lap("optimizer")
        self.steps_done += 1
        stops = [n for n, votes in zip(STOP_SIGNALS, ballot[_STOP:], strict=True) if votes]
        return StepReport(
            step=self.steps_done,
            epoch=epoch,
            epoch_end=epoch_end,
            loss=float(ballot[_LOSS]),
            samples=samples,
            lr=lr,
            stop_signal=stops[0] if stops else 0,
            checkpoint=bool(ballot[_CHECKPOINT]),
            written=written,
            time_s=clock.end(self.steps_done),
            sent_bytes=self.exchange.sent_bytes(),
            staleness=self.exchange.staleness(),
            **clock.seconds,
        )

    def _judge(self, ballot: Array, inputs: Array) -> None:
        """Raise on all workers what any has failed by."""
        if ballot[_FAILED]:
            raise_together(self.context, self._failure)
        if not np.isfinite(ballot[_LOSS]):
            self._raise_diverged(float(ballot[_LOSS]), inputs)

    def _forward_backward(
        self, inputs: Array, targets: Array, samples: int, begun: set[int], clock: Clock
    ) -> Number:
        """This rank's share of the loss; its gradients go to the exchange as they get ready."""

        def ready(parameter: Any) -> None:
            bucket = self.space.ready(parameter)
            if bucket is not None:
                begun.add(bucket.index)
                self._begin(bucket)

        loss: Number = 0.0
        phase = self._phase(training=True)
        passes = parts(np.arange(len(inputs)), -(-len(inputs) // self.accumulate))
        inputs, targets = self.compute.inputs(inputs), self.compute.put(targets)
        self.space.refresh()
        for number, part in enumerate(passes, start=1):
            rows = slice(part[0], part[-1] + 1)
            outputs = self._passes.outputs(inputs[rows], phase)
            share, gradient = self.loss(outputs, targets[rows], samples)
            loss = loss + share
            clock.lap("forward")
            gradient = self.compute.scaled(gradient)
            self.model.backward(gradient, ready if number == len(passes) else _not_yet)
            clock.lap("backward")
        if passes and (missing := self.space.missing()):
            raise ConfigError(
                f"backward reported no gradient for {', '.join(missing)}: call the layer's "
                "backward, or ready(parameter) for parameters of your own."
            )
        return loss

    def _may_update(self, finite: list[float], lr: float) -> bool:
        """Whether the global gradient of the step can be used; the same on all ranks."""
        scale = self.compute.scale
        return scale is None or scale.may_update(bool(finite[0]), self.steps_done + 1, lr)

    def _begin(self, bucket: Bucket) -> None:
        self.compute.unscale(bucket)
        if self._prepare is not None:
            self._prepare(bucket, self.context.group.size)
        self.exchange.begin(bucket)

    def _phase(self, *, training: bool) -> Phase:
        key = np.array([self.seed, self.context.group.rank], np.uint64)
        counter = np.array([0, 0, 0, self.steps_done], np.uint64)
        return Phase(training, np.random.Generator(np.random.Philox(key=key, counter=counter)))

    def _raise_diverged(self, loss: float, inputs: Array) -> None:
        step, lr = self.steps_done + 1, self.optimizer.lr
        if self._ballots.lag or self.exchange.updates_parameters:
            # that step's batch or parameters are no longer there
            raise Diverged(
                f"the loss became {loss} in one of the {self._ballots.lag + 1} steps up to {step}. "
                f"Try a lower learning rate (optimizer.lr is {lr:g})."
            )
        place = ""
        if len(inputs):
            inputs = self.compute.inputs(inputs)
            place = first_nonfinite(self.model, self.space, inputs, self._phase(training=True))
        raise diverged(self.context, loss, step, lr, place)


def total_steps(count: int, batch_size: int, epochs: int, max_steps: int = 0) -> int:
    """Steps of a run.

    Args:
        count: training samples.
        batch_size: global; 0 for all samples.
        epochs: passes over the samples.
        max_steps: limit, 0 for none.
    """
    total = epochs * steps_per_epoch(count, batch_size)
    return min(total, max_steps) if max_steps else total


def _not_yet(parameter: Any) -> None:
    """A pass that is not the step's last: gradients go on adding up."""


def _dataset(dataset: Dataset | tuple[Array, Array]) -> Dataset:
    if isinstance(dataset, tuple):
        return ArrayDataset(*dataset)
    return dataset


def _within(part: str, state: Mapping[str, Array]) -> State:
    """What belongs to a part, without the part's name."""
    prefix = f"{part}."
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
