"""Times and memory of a distributed step from the costs of its layers: what `simulate` gives, much faster.

The devices of a stage do the same at the same time, microbatches cost alike, and so do layers of one kind. So each
kind of layer is simulated once, and passes of whole stages are then put in the order of the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from loosestep.planner.parallelism.distribution import TARGET_BYTES, Degrees, Training, spans
from loosestep.planner.parallelism.emitter import Indivisible
from loosestep.planner.parallelism.hardware import Hardware
from loosestep.planner.parallelism.layer_costs import LayerCost, PassCost, Place, layer_cost, loss_cost
from loosestep.planner.parallelism.models import Model, run_costs, stages
from loosestep.planner.parallelism.schedules import passes


@dataclass(frozen=True)
class Estimate:
    """What a training step costs.

    seconds: the length of a step.
    peak: the most bytes that live at once on a device, of the one that needs the most.
    idle: the share of the devices' time in which they compute nothing: they wait or communicate.
    sent: bytes that a device sends in a step, the mean over devices.
    cuts: the layers of each stage.
    """

    degrees: Degrees
    seconds: float
    peak: int
    idle: float
    sent: float
    cuts: tuple[range, ...]


class Chain(NamedTuple):
    """Every layer's cost for one tensor degree and microbatch: inside a stage, and as the first of one."""

    inside: list[LayerCost]
    leading: list[LayerCost]
    loss: PassCost
    limits: list[float]
    """What every run of layers costs in seconds."""

    def seconds(self) -> list[float]:
        return [each.forward.seconds + each.later.seconds for each in self.inside]


class StageCost(NamedTuple):
    """What a stage costs one of its devices.

    forward, first, later: its passes. given, taken: bytes that are there before the step: parameters with their
    state, and those that each microbatch brings. received, asked: bytes of the input and of the gradient that come
    from other stages. kept: bytes between a microbatch's forward and backward pass. layers: the last one first.
    """

    forward: PassCost
    first: PassCost
    later: PassCost
    resident: int
    kept: int
    received: int
    asked: int
    layers: list[LayerCost]
    loss: PassCost | None

    def peak(self, in_flight: int, microbatches: int) -> int:
        """Return the most bytes that live at once, with at most that many microbatches in flight."""
        grads = sum(layer.parameters for layer in self.layers)
        more = (in_flight - 1) * self.kept
        forward, first = more + self.received + self.forward.peak, more + self.kept + self.asked + self.first.peak
        found = [forward, first]
        if microbatches > 1:
            still = in_flight if microbatches > in_flight else in_flight - 1
            found.append(grads + still * self.kept + self.asked + self.later.peak)
        if microbatches > in_flight:
            found.append(grads + forward)
        return self.resident + max(found)


class Estimator:
    """Estimates steps of one model on one kind of hardware; what several have in common is computed once."""

    def __init__(self, model: Model, training: Training, hardware: Hardware) -> None:
        self.model, self.training, self.hardware = model, training, hardware
        self.kinds = {layer: number for number, layer in enumerate(dict.fromkeys(model.layers))}
        self.numbers = [self.kinds[layer] for layer in model.layers]
        self._costs: dict[tuple[int, Place], LayerCost] = {}
        self._chains: dict[tuple[int, bool, int], Chain | Indivisible] = {}
        self._stages: dict[tuple[int, bool, int, int], tuple[tuple[range, ...], list[StageCost]]] = {}

    def estimate(self, degrees: Degrees) -> Estimate:
        """Return what a step costs; raise `Indivisible`, or ValueError where there are more stages than layers."""
        samples = self.training.microbatch(degrees)
        groups, replicas, neighbours = spans(degrees, self.hardware.per_host)
        cuts, costs = self.stages(degrees.tensor, groups, samples * self.model.rows, degrees.pipeline)
        pipeline = Pipeline(costs, degrees, self.hardware, replicas=replicas, neighbours=neighbours)
        seconds = pipeline.seconds()
        batch = self.batch_bytes(samples * self.model.rows * degrees.microbatches, degrees.pipeline)
        ahead = [
            degrees.microbatches if degrees.schedule == "gpipe" else min(left, degrees.microbatches)
            for left in range(degrees.pipeline, 0, -1)
        ]
        peak = max(
            cost.peak(count, degrees.microbatches) + more
            for cost, count, more in zip(costs, ahead, batch, strict=True)
        )
        idle = 1 - pipeline.computing() / (seconds * degrees.pipeline)
        return Estimate(degrees, seconds, peak, idle, pipeline.sent() / degrees.pipeline, cuts)

    def batch_bytes(self, rows: int, count: int) -> list[int]:
        """Return the bytes of a replica's inputs and targets, on each stage."""
        found = [0] * count
        found[0] += rows * self.model.inputs * self.training.itemsize
        found[-1] += rows * TARGET_BYTES
        return found

    # --- layers ------------------------------------------------------------------------------------------

    def cost(self, number: int, place: Place) -> LayerCost:
        """Return the cost of a layer at a place, which every layer of its kind has there."""
        key = self.numbers[number], place
        if key not in self._costs:
            self._costs[key] = layer_cost(
                self.model.layers[number], str(number), place, self.training, self.hardware
            )
        return self._costs[key]

    def chain(self, tensor: int, between: bool, rows: int) -> Chain:
        """Return the costs of all layers; raise `Indivisible` where the tensor degree does not divide one."""
        key = tensor, between, rows
        if key not in self._chains:
            try:
                self._chains[key] = self._chain(*key)
            except Indivisible as error:
                self._chains[key] = error
        found = self._chains[key]
        if isinstance(found, Indivisible):
            raise found
        return found

    def _chain(self, tensor: int, between: bool, rows: int) -> Chain:
        inside: list[LayerCost] = []
        leading: list[LayerCost] = []
        place = Place(tensor, between, rows, self.model.inputs, split=False, kept=True, wanted=False)
        for number in range(len(self.numbers)):
            inside.append(self.cost(number, place))
            leading.append(self.cost(number, place._replace(kept=False)) if number else inside[0])
            last = inside[-1]
            place = place._replace(width=last.width, split=last.split, kept=last.keeps_output, wanted=True)
        chain = Chain(inside, leading, loss_cost(place, self.training, self.hardware), [])
        return chain._replace(limits=run_costs(chain.seconds()))

    # --- stages ------------------------------------------------------------------------------------------

    def stages(
        self, tensor: int, between: bool, rows: int, count: int
    ) -> tuple[tuple[range, ...], list[StageCost]]:
        """Return the layers of each stage, cut so that the slowest is as fast as can be, and what stages cost."""
        key = tensor, between, rows, count
        if key not in self._stages:
            chain = self.chain(tensor, between, rows)
            cuts = tuple(stages(chain.seconds(), count, chain.limits))
            self._stages[key] = cuts, [self.stage(chain, cut) for cut in cuts]
        return self._stages[key]

    def stage(self, chain: Chain, cut: range) -> StageCost:
        is_first, is_last = cut.start == 0, cut.stop == len(self.numbers)
        layers = [chain.leading[cut.start], *chain.inside[cut.start + 1 : cut.stop]]
        received = 0 if is_first else chain.inside[cut.start - 1].output
        forward = PassCost()
        for layer in layers:
            forward = forward.then(layer.forward)
        layers.reverse()
        loss = chain.loss if is_last else None
        first = later = loss or PassCost()
        for layer in layers:
            first, later = first.then(layer.first), later.then(layer.later)
        leaving = 0 if is_last or layers[0].keeps_output else layers[0].output
        resident = sum(layer.parameters + layer.state for layer in layers)
        asked = 0 if is_last else layers[0].output
        kept = received + forward.net - leaving
        return StageCost(forward, first, later, resident, kept, received, asked, layers, loss)


class Pipeline:
    """Puts the passes of stages in the order of the schedule, as `simulate` does with operations."""

    def __init__(
        self, costs: list[StageCost], degrees: Degrees, hardware: Hardware, *, replicas: bool, neighbours: bool
    ) -> None:
        self.costs, self.degrees = costs, degrees
        self.replicas = hardware.between if replicas else hardware.within
        link = hardware.between if neighbours else hardware.within
        self.transfers = [link.latency + after.received / link.bandwidth for _, after in pairwise(costs)]
        self.clocks, self.out, self.into = ([0.0] * len(costs) for _ in range(3))

    def seconds(self) -> float:
        """Return when the last stage has updated its parameters."""
        count, microbatches = len(self.costs), self.degrees.microbatches
        clocks, out, into, transfers = self.clocks, self.out, self.into, self.transfers
        ahead, back = ([[0.0] * microbatches for _ in range(count)] for _ in range(2))  # arrivals
        forwards = [(cost.forward.seconds, cost.forward.result) for cost in self.costs]
        firsts = [(cost.first.seconds, cost.first.result) for cost in self.costs]
        laters = [(cost.later.seconds, cost.later.result) for cost in self.costs]
        reduced: list[list[float]] = [[] for _ in self.costs]
        for stage, forward, microbatch in passes(self.degrees.schedule, count, microbatches):
            free, arrived = clocks[stage], (ahead if forward else back)[stage][microbatch]
            begin = free if free > arrived else arrived  # `max` takes as long as the rest of a pass
            if forward:
                spent, result = forwards[stage]
                clocks[stage] = begin + spent
                if stage + 1 < count:
                    sent = max(begin + result, out[stage], into[stage + 1]) + transfers[stage]
                    out[stage] = into[stage + 1] = ahead[stage + 1][microbatch] = sent
                continue
            spent, result = (laters if microbatch else firsts)[stage]
            clocks[stage] = begin + spent
            if stage:
                sent = max(begin + result, out[stage], into[stage - 1]) + transfers[stage - 1]
                out[stage] = into[stage - 1] = back[stage - 1][microbatch] = sent
            if microbatch + 1 == microbatches:
                reduced[stage] = self.reduce(stage, begin)
        return max(self.update(stage, reduced[stage]) for stage in range(count))

    def reduce(self, stage: int, begin: float) -> list[float]:
        """Return when the gradients of each layer are summed, after the last backward pass has begun."""
        cost, n, link, found = self.costs[stage], self.degrees.data, self.replicas, []
        time = begin + (cost.loss.seconds if cost.loss else 0.0)
        free = max(self.out[stage], self.into[stage])
        for layer in cost.layers:
            backward = layer.later if self.degrees.microbatches > 1 else layer.first
            done = time + backward.ready
            if n > 1 and layer.parameters:
                free = done = max(done, free) + 2 * (n - 1) * (
                    link.latency + layer.parameters / n / link.bandwidth
                )
            found.append(done)
            time += backward.seconds
        self.out[stage] = self.into[stage] = free
        return found

    def update(self, stage: int, reduced: list[float]) -> float:
        """Return when all parameters of a stage are updated."""
        time = self.clocks[stage]
        for layer, done in zip(self.costs[stage].layers, reduced, strict=True):
            time = max(time, done) + layer.update if layer.parameters else time
        return time

    def computing(self) -> float:
        """Return the seconds in which devices compute, one of each stage."""
        more = self.degrees.microbatches - 1
        return sum(
            (more + 1) * cost.forward.computing
            + cost.first.computing
            + more * cost.later.computing
            + sum(layer.update for layer in cost.layers)
            for cost in self.costs
        )

    def sent(self) -> float:
        """Return the bytes that devices send, one of each stage."""
        n, count = self.degrees.data, self.degrees.microbatches
        total = 0.0
        for cost in self.costs:
            total += count * (cost.forward.sent + cost.later.sent + cost.received + cost.asked)
            total += 2 * (n - 1) / n * sum(layer.parameters for layer in cost.layers)
        return total
