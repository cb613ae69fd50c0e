"""The native core."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from loosestep.ops import Buffer
from loosestep.requests import Exchange

class _pybind11_type(type): ...  # noqa: N801 (the name at runtime)

# ---- elementwise ops, reductions, this machine: csrc/bind/ops/; loosestep/ops.py describes each op ----

class Updates:
    def axpy(self, y: Buffer, x: Buffer, a: float) -> None: ...
    def sgd(self, x: Buffer, g: Buffer, rate: float) -> None: ...
    def momentum(self, x: Buffer, v: Buffer, g: Buffer, rate: float, momentum: float) -> None: ...
    def nesterov(self, x: Buffer, v: Buffer, g: Buffer, rate: float, momentum: float) -> None: ...
    def adam(
        self,
        x: Buffer,
        m: Buffer,
        v: Buffer,
        g: Buffer,
        rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        step: int,
    ) -> None: ...
    def lars(self, x: Buffer, v: Buffer, g: Buffer, rate: float, momentum: float, weight_decay: float) -> None: ...
    def lamb(
        self,
        x: Buffer,
        m: Buffer,
        v: Buffer,
        g: Buffer,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
        step: int,
    ) -> None: ...
    def rmsprop_warmup(
        self,
        x: Buffer,
        d: Buffer,
        m: Buffer,
        g: Buffer,
        rate: float,
        momentum: float,
        decay: float,
        sgd_share: float,
        rms_share: float,
        epsilon: float,
    ) -> None: ...

class Ops(Updates):
    def copy(self, x: Buffer, out: Buffer) -> None: ...
    def scale(self, x: Buffer, a: float) -> None: ...
    def accumulate(self, e: Buffer, c: Buffer, x: Buffer, decay: float) -> None: ...
    def shrink(self, x: Buffer, factor: float, less: float) -> None: ...
    def subtract(self, a: Buffer, b: Buffer, out: Buffer) -> None: ...
    def lerp(self, x: Buffer, c: Buffer, rate: float) -> None: ...
    def lerp_and_copy(self, x: Buffer, c: Buffer, rate: float) -> None: ...
    def elastic(self, x: Buffer, c: Buffer, rate: float) -> None: ...
    def add_and_average(self, c: Buffer, z: Buffer, d: Buffer, weight: float, step: int) -> None: ...
    def add_if_recent(self, c: Buffer, d: Buffer, seen: float, most: int, step: int) -> None: ...
    def claim(self, c: Buffer, v: Buffer) -> None: ...
    def compensate(
        self, c: Buffer, b: Buffer, v: Buffer, s: Buffer, strength: float, decay: float, epsilon: float
    ) -> None: ...
    def buffered(
        self,
        c: Buffer,
        total: Buffer,
        d: Buffer,
        rate: float,
        every: int,
        seen: float,
        discount: float,
        step: int,
    ) -> None: ...
    def delayed_nesterov(
        self,
        c: Buffer,
        m: Buffer,
        total: Buffer,
        d: Buffer,
        rate: float,
        momentum: float,
        every: int,
        step: int,
    ) -> None: ...
    def outer_momentum(self, x: Buffer, c: Buffer, u: Buffer, rate: float, momentum: float) -> None: ...
    def outer_nesterov(self, x: Buffer, c: Buffer, u: Buffer, rate: float, momentum: float) -> None: ...
    def correct(self, x: Buffer, s: Buffer, a: Buffer) -> None: ...
    def correct_and_copy(self, x: Buffer, s: Buffer, a: Buffer) -> None: ...
    def anchor(self, x: Buffer, z: Buffer, b: Buffer, pull: float, momentum: float) -> None: ...
    def proximal(self, g: Buffer, x: Buffer, c: Buffer, strength: float) -> None: ...
    def blend(self, z: Buffer, x: Buffer, keep: float) -> None: ...
    def sgd_proximal(
        self, x: Buffer, g: Buffer, c: Buffer, z: Buffer, rate: float, strength: float, keep: float
    ) -> None: ...
    def nesterov_proximal(
        self,
        x: Buffer,
        v: Buffer,
        g: Buffer,
        c: Buffer,
        z: Buffer,
        rate: float,
        momentum: float,
        strength: float,
        keep: float,
    ) -> None: ...
    def parle(
        self, x: Buffer, v: Buffer, z: Buffer, y: Buffer, rate: float, momentum: float, coupling: float
    ) -> None: ...
    def mean_of(self, buffers: Sequence[Buffer], out: Buffer, weights: Sequence[float] | None = None) -> None: ...
    def weighted_sum(self, buffers: Sequence[Buffer], weights: Sequence[float], out: Buffer) -> None: ...
    def dot(self, x: Buffer, y: Buffer) -> float: ...
    def norm(self, x: Buffer) -> float: ...
    def elastic_all(self, replicas: Sequence[Buffer], c: Buffer, rate: float) -> None: ...
    def mix(self, replicas: Sequence[Buffer], weights: Sequence[Sequence[float]]) -> None: ...
    def norms(self, x: Buffer, starts: Sequence[int]) -> list[float]: ...
    def normal(self, out: Buffer, scale: float, seed: int, stream: int, step: int, start: int = 0) -> None: ...
    def add_normal(self, x: Buffer, scale: float, seed: int, stream: int, step: int, start: int = 0) -> None: ...
    def langevin(
        self,
        x: Buffer,
        g: Buffer,
        rate: float,
        scale: float,
        seed: int,
        stream: int,
        step: int,
        start: int = 0,
    ) -> None: ...
    def all_finite(self, x: Buffer) -> bool: ...

class Info(TypedDict):
    isa: str
    isas: list[str]
    threads: int
    cores: int
    openmp: bool

_best: Ops  # of the best instruction set
adam = _best.adam
add_and_average = _best.add_and_average
add_if_recent = _best.add_if_recent
add_normal = _best.add_normal
all_finite = _best.all_finite
anchor = _best.anchor
axpy = _best.axpy
blend = _best.blend
accumulate = _best.accumulate
claim = _best.claim
compensate = _best.compensate
copy = _best.copy
correct = _best.correct
correct_and_copy = _best.correct_and_copy
buffered = _best.buffered
delayed_nesterov = _best.delayed_nesterov
dot = _best.dot
elastic = _best.elastic
elastic_all = _best.elastic_all
lamb = _best.lamb
langevin = _best.langevin
lars = _best.lars
lerp = _best.lerp
lerp_and_copy = _best.lerp_and_copy
mean_of = _best.mean_of
mix = _best.mix
momentum = _best.momentum
nesterov = _best.nesterov
nesterov_proximal = _best.nesterov_proximal
norm = _best.norm
normal = _best.normal
norms = _best.norms
outer_momentum = _best.outer_momentum
outer_nesterov = _best.outer_nesterov
parle = _best.parle
proximal = _best.proximal
rmsprop_warmup = _best.rmsprop_warmup
scale = _best.scale
sgd = _best.sgd
sgd_proximal = _best.sgd_proximal
shrink = _best.shrink
subtract = _best.subtract
weighted_sum = _best.weighted_sum

exact: Updates
racy: Updates

def load(shared: Buffer, out: Buffer) -> None: ...
def isas() -> list[str]: ...
def isa(name: str) -> Ops: ...
def threads() -> int: ...
def set_threads(n: int) -> None: ...
def info() -> Info: ...
def document(function: Callable[..., Any], signature: str, text: str) -> None: ...
def allocate(size: int) -> NDArray[np.uint8]: ...

class Rules:
    """The rules as data, for those who run them elsewhere."""

    def names(self) -> list[str]: ...
    def signature(self, op: str) -> tuple[list[str], int, int]:
        """Its parameters, how many of them are buffers, and as bits which of those are written."""

    def fields(self, op: str, wide: bool, scalars: tuple[Any, ...]) -> bytes:
        """The rule for these scalars, computing in float64 (wide) or float32."""

rules: Rules

class Streams:
    def update(self, x: Buffer, y: Buffer, streaming: bool = False) -> None: ...
    def copy(self, x: Buffer, out: Buffer, streaming: bool = False) -> None: ...
    def touch(self, x: NDArray[np.float32], at: NDArray[np.uint32]) -> float: ...
    def ping_pong(self) -> float: ...

streams: Streams

# ---- wire formats: csrc/bind/codecs/; loosestep/codecs describes each ----

class Codecs:
    def encode(self, kind: str, x: Buffer, wire: Buffer) -> bool: ...
    def decode(self, kind: str, wire: Buffer, out: Buffer) -> None: ...
    def sign_encode(self, x: Buffer, wire: Buffer) -> bool: ...
    def sign_decode(self, wire: Buffer, out: Buffer) -> None: ...
    def dither_encode(self, x: Buffer, wire: Buffer, levels: int, bucket: int, key: int) -> bool: ...
    def dither_decode(self, wire: Buffer, out: Buffer, levels: int, bucket: int) -> None: ...
    def bins_encode(self, x: Buffer, wire: Buffer, bits: int) -> bool: ...
    def bins_decode(self, wire: Buffer, out: Buffer, bits: int) -> None: ...
    def select(self, x: Buffer, chunk: int, keep: int, kept: Buffer, wire: Buffer, at: int) -> bool: ...
    def place(self, kept: Buffer, wire: Buffer, at: int, chunk: int, keep: int, out: Buffer) -> None: ...
    def add(
        self, kept: Buffer, wire: Buffer, at: int, chunk: int, keep: int, weight: float, out: Buffer
    ) -> None: ...
    def gather(self, x: Buffer, kept: Buffer, key: int) -> None: ...
    def scatter(self, kept: Buffer, out: Buffer, key: int) -> None: ...
    def narrow(self, x: Buffer, wire: Buffer, at: int, bits: int) -> None: ...
    def widen(self, wire: Buffer, at: int, out: Buffer, bits: int) -> None: ...
    def unit_of(self, x: Buffer) -> float: ...
    def times(self, x: Buffer, columns: int, rank: int, unit: float, q: Buffer, p: Buffer) -> None: ...
    def times_transposed(self, x: Buffer, columns: int, rank: int, unit: float, p: Buffer, q: Buffer) -> None: ...
    def orthonormal(self, p: Buffer, rank: int) -> None: ...
    def product(self, p: Buffer, q: Buffer, columns: int, rank: int, out: Buffer) -> None: ...
    def transform(self, x: Buffer, left: Buffer, right: Buffer, out: Buffer) -> None: ...
    def use(self, isa: str) -> None: ...

codecs: Codecs

# ---- what worker threads share: csrc/bind/shared/ ----

class Mismatch(RuntimeError):
    """Ranks posted different requests under one ticket; the message names both ranks and both requests."""

class Team(metaclass=_pybind11_type):
    """Split-phase collectives for `size` ranks, one thread each, matched by order of posting.

    Sums are, per element, a left fold in rank order in the arrays' dtype (float32 or float64, C-contiguous).
    A post returns its ticket (0, 1, 2, ... on each rank) and never blocks; `outstanding` tickets may be open.
    Between a post and its complete the arrays belong to the team; the owner of a mix's `buf` may read it.
    """

    def __init__(self, size: int, outstanding: int = 32) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def outstanding(self) -> int: ...
    def post_all_reduce(
        self,
        rank: int,
        buf: NDArray[Any],
        op: Literal["sum", "mean", "max", "min"] = "sum",
        weight: float = 1.0,
    ) -> int:
        """In place on all ranks. Unequal weights: sum(w x) / sum(w), a rank of weight 0 is never read."""

    def post_broadcast(self, rank: int, buf: NDArray[Any], root: int = 0) -> int: ...
    def post_all_gather(self, rank: int, piece: NDArray[Any], out: NDArray[Any]) -> int: ...
    def post_barrier(self, rank: int) -> int: ...
    def post_mix(
        self,
        rank: int,
        buf: NDArray[Any],
        scratch: NDArray[Any],
        ranks: Sequence[int],
        weights: Sequence[float],
        readers: Sequence[int],
    ) -> int:
        """buf becomes sum_k weights[k] * buf of ranks[k]; `readers`: whose mix names this rank."""

    def complete(self, rank: int, ticket: int, seconds: float) -> Literal["done", "waiting", "aborted"]:
        """Completes this rank's tickets up to this one; "waiting" when the time is up. Raises Mismatch."""

    def missing(self, ticket: int) -> list[int]:
        """The ranks that have not posted this ticket."""

    def abort(self) -> None:
        """Every present and future complete() returns "aborted"; later posts do nothing."""

class Center(metaclass=_pybind11_type):
    """The center: a private copy of `initial` that many workers move, locked by `chunk` bytes."""

    def __init__(self, initial: NDArray[Any], chunk: int = 16384) -> None: ...
    def elastic(self, x: NDArray[Any], rate: float, rank: int = 0) -> int:
        """d = rate * (x - c); x -= d; c += d. Returns the version after it."""

    def fetch(self, out: NDArray[Any], rank: int = 0) -> int:
        """Copies the center into out. Returns a version whose additions are all in it, if not more."""

    def push(
        self,
        rule: str,
        others: Sequence[Center],
        values: Sequence[NDArray[Any]],
        scalars: Sequence[float],
        rank: int = 0,
    ) -> int:
        """An op on the buffers (this, *others, *values), of which it writes no value; all centers are locked.

        An op whose last scalar is `step` gets it here: the moves of this center's chunk, this one included.
        Returns the version after it.
        """

    def store(self, values: NDArray[Any], version: int = 0) -> None:
        """As if it had been moved `version` times."""

    @property
    def version(self) -> int:
        """How many calls of elastic() and push() have completed."""

    @property
    def size(self) -> int: ...
    @property
    def dtype(self) -> Literal["float32", "float64"]: ...

def check_move(
    rule: str, shared: int, values: Sequence[NDArray[Any]], scalars: Sequence[float], size: int, dtype: str
) -> None:
    """Raises what a push to so many centers of that size and dtype would raise."""

# ---- end of what worker threads share ----

# ---- the simulator ----

class Calendar(metaclass=_pybind11_type):
    """What happens when: the earliest first; ties in rank order, then in the order in which they were pushed."""

    @property
    def now(self) -> float:
        """The time of what `next` gave last."""

    def push(self, time: float, rank: int, what: Any, /) -> None: ...
    def next(self) -> Any:
        """What is first; None if nothing is left."""

    def clear(self) -> None: ...

class Network(metaclass=_pybind11_type):
    """What messages cost. A worker sends one at a time; the center's link is finite.

    latency, bandwidth: tables (sender, receiver). to_center, worker_bandwidth: by worker. header, send, receive,
    copy, turn, inbound, lag: as `Prices` has them. host_of: by worker; those of a host share its link to others.
    """

    def __init__(
        self,
        latency: NDArray[np.float64],
        bandwidth: NDArray[np.float64],
        to_center: Sequence[float],
        worker_bandwidth: Sequence[float],
        center_bandwidth: float,
        *,
        header: float = ...,
        send: float = ...,
        receive: float = ...,
        copy: float = ...,
        turn: float = ...,
        contention: float = ...,
        inbound: float = ...,
        lag: Sequence[Sequence[tuple[float, float]]] = ...,
        host_of: Sequence[int] = ...,
    ) -> None: ...
    @property
    def center_in(self) -> float:
        """When what was pushed so far is all at the center."""

    @center_in.setter
    def center_in(self, time: float, /) -> None: ...
    def send(self, source: int, to: int, nbytes: float, now: float, together: int = 1) -> tuple[float, float]:
        """Send one of so many messages that go together: when it has left, and when all of it is there."""

    def injected(self, source: int) -> float:
        """When a worker's processor has handed over all that it sent."""

    def received(self, messages: int, nbytes: float) -> float:
        """What so many messages cost their receiver when they are there."""

    def push(self, source: int, nbytes: float, now: float) -> tuple[float, float]:
        """Send to the center: when the worker is done, and when the center has it all."""

    def asked(self, source: int, now: float) -> float:
        """When a worker's request is at the center: not before what it has pushed."""

    def pull(self, nbytes: float, now: float) -> tuple[float, float]:
        """Answer a request that is at the center now: when it reads the value, and when all has left."""

    def all_reduce(
        self,
        elements: int,
        itemsize: int,
        ranks: Sequence[int],
        arrivals: Sequence[float],
        *,
        whole: bool,
        at_once: bool,
    ) -> list[float]:
        """When each of `ranks` has the result, given when each asked for it: by the messages of its form.

        Hop k of a phase is from member i to member i + k. What a worker still has to send of an earlier request
        goes first. Where all links are alike and messages go at once it takes O(n), else O(n^2).
        """

def replay(
    network: Network,
    programs: Sequence[tuple[Any, ...]],
    program_of: Sequence[int],
    groups: Sequence[Sequence[int]],
    durations: NDArray[np.float64],
    *,
    sharded: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64], int, float]:
    """When each worker is done, how long each has waited, how many events there were, and when all is over.

    programs: what workers ask for, as csrc/simulated/recorded.hpp has it; program_of: each worker's. durations: of
    gradient steps, by worker and step. sharded: each worker has a shard of every shared variable. Raises
    RuntimeError where a worker waits for what no other does.
    """

class Mail(metaclass=_pybind11_type):
    """Messages between workers, at the prices of a network.

    check(source, content, strand, into) raises where a message and its receive are not alike.
    """

    def __init__(
        self,
        calendar: Calendar,
        network: Network,
        check: Callable[[int, NDArray[Any], Any, NDArray[Any]], None],
    ) -> None: ...
    def exchange(self, strand: Any, exchange: Exchange, /) -> float | None:
        """When it is done; None: `strand` will be in the calendar then. Sent is what the buffers hold now."""

    def clear(self) -> None: ...

# ---- what the processes of one host share (Linux): csrc/bind/shm/ ----

Said = Literal["done", "waiting", "aborted"]

class HostArena(metaclass=_pybind11_type):
    """Memory of every rank of a host that all its ranks map. Each allocates in its part; arrays free it.

    A forked child has private copies of its parent's arrays: a page is the parent's until the child writes it.
    Errors as Host.
    """

    def __init__(self, path: str | int, size: int, rank: int, create: bool) -> None:
        """`path`: a descriptor from `make`, which stays the caller's, or a path. create: make the file."""

    @staticmethod
    def make(size: int) -> int:
        """A descriptor of nameless memory for so many ranks, sparse: its pages are reserved when they are used."""

    def allocate(self, bytes: int) -> NDArray[np.uint8] | None:  # noqa: A002
        """Zeros, at a page; from 128 KiB on a few cache lines behind. None: there is no room, or it is closed."""

    def holds(self, array: NDArray[Any]) -> bool:
        """Whether an array lies in this rank's part, while it is open."""

    def close(self) -> None:
        """From now on arrays in it are this process's own: their values stay, and their addresses."""

class Host(metaclass=_pybind11_type):
    """Collectives between the `size` processes of one host, over memory that all of them map.

    A collective gives "done"; or "waiting" when `seconds` are over: the same call must be repeated to go on; or
    "aborted" once any process has called abort(). Arrays are float32 or float64, C-contiguous; sums are, per
    element, a left fold in rank order. One thread of a process at a time is in a collective.
    Raises Mismatch on every rank, now and ever after, where ranks differ in kind, op, size, dtype or root.
    OSError: the memory cannot be made, is too small or cannot be mapped. ValueError: memory made for other than
    `size` ranks, an argument, or a closed Host. RuntimeError: in a fork of the process that opened it.
    """

    def __init__(self, path: str | int, size: int, rank: int, create: bool) -> None:
        """`path`: a descriptor from `make`, or a path (/proc/PID/fd/N of another process of the same user).

        create: lay the memory out, and make the file if `path` is a path (it must be new); the other ranks open it
        after that. All of it is reserved at once: `needed(size)` bytes.
        """

    @staticmethod
    def make(bytes: int) -> int:  # noqa: A002
        """A descriptor of nameless memory, reserved; the caller closes it, mappings outlive it."""

    @staticmethod
    def needed(size: int) -> int:
        """The bytes that a Host of so many ranks takes: 1 MiB a rank, and a little."""

    @property
    def size(self) -> int: ...
    @property
    def rank(self) -> int: ...
    def use(
        self, arena: HostArena | None, direct_from: int, pieces: Sequence[tuple[int, int]], spins: bool
    ) -> None:
        """How calls are carried out from now on; all ranks say the same, between the same calls.

        From `direct_from` bytes on they are done in place where the vectors of all ranks lie in `arena`; else in
        pieces, of (calls from so many bytes, bytes of a piece). spins: there is a core for every rank.
        """

    def all_reduce(
        self,
        buf: NDArray[Any],
        op: Literal["sum", "mean", "max", "min"],
        weight: float,
        seconds: float,
    ) -> Said:
        """In place on all ranks. Unequal weights: sum(w x) / sum(w), without ranks of weight 0."""

    def broadcast(self, buf: NDArray[Any], root: int, seconds: float) -> Said: ...
    def all_gather(self, piece: NDArray[Any], out: NDArray[Any], seconds: float) -> Said:
        """out: every rank's piece, in rank order; `piece` may be this rank's place in it."""

    def barrier(self, seconds: float) -> Said: ...
    @property
    def moved(self) -> int:
        """How many pieces this rank has put out: it grows while a collective goes on, modulo 2^32."""

    def abort(self) -> None:
        """Every present and future wait of every process returns "aborted", within 20 ms."""

    def beat_age(self, rank: int) -> float:
        """Seconds since that process's last sign of life, one every 0.2 s; infinity: it never came.

        A thread of the core gives it, also while Python is in a long call; SIGSTOP, SIGKILL and close() end it.
        """

    def note(self, text: str) -> None:
        """Says what this rank is doing: the first 160 bytes of the text (UTF-8)."""

    def noted(self, rank: int) -> str: ...
    def close(self) -> None:
        """Gives the memory back. RuntimeError while another thread is in a collective."""

class OwnerDied(RuntimeError):
    """A process died inside a call on a HostCenter: a part of its values is half changed, and stays refused."""

class Pulse(metaclass=_pybind11_type):
    """The heartbeat of a process for those of other hosts: a datagram to each, twice a second, by its own thread.

    It goes on while the process computes, with or without Python's lock, and stops when it is stopped, killed or
    cut off. A beat has a number, which only grows, and a checksum (SipHash-2-4) under the receiver's key, so that
    no beat is heard twice and none from others. `local`: all processes are on this machine, and only it can send
    here. OSError: no socket. ValueError: an argument, or a closed Pulse. RuntimeError: in a fork.
    """

    def __init__(self, rank: int, size: int, local: bool = False) -> None: ...
    @staticmethod
    def addresses() -> list[str]:
        """All IPv4 addresses of this host: which of them others can reach, they find by trying."""

    @property
    def key(self) -> bytes:
        """16 random bytes, with which beats for this process must be made."""

    @property
    def port(self) -> int: ...
    def reach(self, key: bytes, addresses: list[str], port: int) -> None:
        """From now on send beats there."""

    def age(self, rank: int) -> float:
        """Seconds since that rank's last beat; infinity before the first."""

    def close(self) -> None: ...

class HostLane(metaclass=_pybind11_type):
    """Host's collectives, begun now and waited for later: a thread of the core goes on with them meanwhile.

    A collective gives its number, from 0, and never waits; its arrays belong to it until it is done. They are done
    one after the other, in the order in which they were begun, which must be the same on every rank; with the bits
    of Host, in memory of its own: `Host.needed(size)` bytes. What is wrong with an array is raised where it is
    begun, Mismatch where it is waited for. Other errors as Host.
    """

    def __init__(self, path: str | int, size: int, rank: int, create: bool) -> None:
        """As for Host."""

    @property
    def size(self) -> int: ...
    @property
    def rank(self) -> int: ...
    def use(
        self, arena: HostArena | None, direct_from: int, pieces: Sequence[tuple[int, int]], spins: bool
    ) -> None:
        """As Host's. RuntimeError while a collective goes on."""

    def all_reduce(self, buf: NDArray[Any], op: Literal["sum", "mean", "max", "min"], weight: float) -> int: ...
    def broadcast(self, buf: NDArray[Any], root: int) -> int: ...
    def all_gather(self, piece: NDArray[Any], out: NDArray[Any]) -> int: ...
    def barrier(self) -> int: ...
    def wait(self, number: int, seconds: float) -> Said:
        """That call and all before it; the work that is left is done here, and no longer in the thread."""

    @property
    def moved(self) -> int: ...
    def abort(self) -> None: ...
    def close(self) -> None:
        """Gives the memory back. RuntimeError while another thread is in wait()."""

class HostMessages(metaclass=_pybind11_type):
    """Messages between the processes of one host, over memory that all of them map.

    A short payload lies in that memory with its header. A long one is copied by its receiver from the sender's
    own memory, or goes through pieces of the common memory where the system does not allow that, or not `pulls`.
    Messages from one rank with one tag are received in the order in which they were sent. Arrays may have any
    element type, and must be of the size and type that was sent: else Mismatch, for the receiver, now and ever
    after. Whatever comes is taken in every call, so two ranks that send before they receive do not block each
    other; an array belongs to its operation until that is done. One thread at a time waits, any number may do the
    rest. `ranks`: what the run calls the ranks of this host, in arguments and errors. Other errors as Host.
    """

    def __init__(self, path: str | int, ranks: list[int], rank: int, create: bool, pulls: bool = True) -> None:
        """As for Host; `needed(len(ranks))` bytes."""

    @staticmethod
    def needed(size: int) -> int:
        """The bytes that it takes for so many ranks: 1 to 2 MiB a rank, and 70 KiB a pair."""

    def exchange(
        self,
        sends: Sequence[tuple[int, NDArray[Any]]],
        recvs: Sequence[tuple[int, NDArray[Any]]],
        tag: int,
        note: float,
        notes: dict[int, float] | None,
        round: int,  # noqa: A002
        seconds: float,
    ) -> int:
        """Send and receive, and wait so long for it: 0 if it is done, else the number to `wait` for.

        `note` goes with every message, and lands in the receiver's `notes` under the sender's rank. round: for
        errors.
        """

    def begin(
        self,
        sends: Sequence[tuple[int, NDArray[Any]]],
        recvs: Sequence[tuple[int, NDArray[Any]]],
        tag: int,
        note: float,
        notes: dict[int, float] | None,
        round: int,  # noqa: A002
    ) -> int:
        """Begin an exchange: 0 if it is done, else a number, which `advance` reports when it is."""

    def begin_mix(
        self,
        buf: NDArray[Any],
        weights: Sequence[tuple[int, float]],
        readers: Sequence[int],
        tag: int,
        round: int,  # noqa: A002
    ) -> int:
        """Begin to send `buf` (float32 or float64) to `readers`; `wait` for the number that this gives.

        That replaces `buf` by the sum of weight * (that rank's buffer): a left fold in the order of `weights`,
        which name this rank too. Until then it may be read.
        """

    def wait(self, number: int, seconds: float) -> bool:
        """Move everything on until that is done (True), something is to be reported, or the time is over."""

    def advance(self) -> list[int] | None:
        """Move everything on without waiting; the numbers of what is to be reported, None if nothing came."""

    def rest(self, seconds: float) -> None:
        """Sleep until something may have come, for so long at most, and for 20 ms."""

    @property
    def sent(self) -> int:
        """Messages that were begun."""

    @property
    def received(self) -> int:
        """Messages that have come, all of them."""

    @property
    def moved(self) -> int:
        """A count that grows whenever a part of a long payload comes."""

    def close(self) -> None:
        """Gives the memory back. RuntimeError while another thread is in wait() or exchange()."""

class HostCenter(metaclass=_pybind11_type):
    """The center of a host's processes: as Center, in memory that all of them map, locked by 16 KiB.

    elastic, fetch, push and store raise OwnerDied on every process where one died holding a part, and TimeoutError
    where a part was not free within `seconds` of the call: parts before it are done then, and x + c conserved.
    Any number of threads may call. Other errors as Host.
    """

    def __init__(
        self, path: str | int, size: int, dtype: str, create: bool, initial: NDArray[Any] | None = None
    ) -> None:
        """`path` and `create` as for Host, `needed(size, dtype)` bytes. initial: with create; None: zeros."""

    @staticmethod
    def needed(size: int, dtype: str) -> int: ...
    def elastic(self, x: NDArray[Any], rate: float, rank: int = 0, seconds: float = 60.0) -> int:
        """d = rate * (x - c); x -= d; c += d. Returns the version after it."""

    def fetch(self, out: NDArray[Any], rank: int = 0, seconds: float = 60.0) -> int:
        """Copies the center into out. Returns a version whose additions are all in it, if not more."""

    def push(
        self,
        rule: str,
        others: Sequence[HostCenter],
        values: Sequence[NDArray[Any]],
        scalars: Sequence[float],
        rank: int = 0,
        seconds: float = 60.0,
    ) -> int:
        """As Center's."""

    def store(self, values: NDArray[Any], version: int = 0, seconds: float = 60.0) -> None: ...
    @property
    def version(self) -> int:
        """How many calls of elastic() and push() have completed."""

    @property
    def size(self) -> int: ...
    @property
    def dtype(self) -> Literal["float32", "float64"]: ...
    def close(self) -> None:
        """Gives the memory back. RuntimeError while another thread is in a call."""

class HostBuffer(metaclass=_pybind11_type):
    """A vector that a host's processes hold in common, zeros at first, without any lock: see `exact` and `racy`.

    A forked child has no part in it: it is not mapped there. Errors as Host.
    """

    def __init__(self, path: str | int, size: int, dtype: str, create: bool) -> None:
        """`path` and `create` as for Host, `needed(size, dtype)` bytes."""

    @staticmethod
    def needed(size: int, dtype: str) -> int: ...
    @property
    def array(self) -> NDArray[Any]: ...
    def close(self) -> None:
        """From now on the array, and every view of it, is this process's own: its values stay, and its address."""

# ---- end of what processes share ----

def count_features(
    starts: NDArray[np.int64], columns: NDArray[Any], values: NDArray[Any], features: int, threads: int
) -> NDArray[np.uint32]:
    """How many entries each feature has. ValueError: the first row with a column outside, nan or infinity."""

class SparseRows(metaclass=_pybind11_type):
    """Compressed sparse rows, copied, shuffled by `seed`, and laid out for one model.

    places[j]: where feature j lies in the model, from 1 on. Entries in places below `head` come first.
    targets: numbers, -1 and 1, or with several outputs numbers of classes. weights: of rows, or None.
    """

    def __init__(
        self, starts: NDArray[np.int64], columns: NDArray[Any], values: NDArray[Any],
        places: NDArray[np.uint32], head: int, outputs: int, targets: NDArray[np.float32],
        weights: NDArray[np.float32] | None, threads: int, seed: int,
    ) -> None: ...  # fmt: skip
    @property
    def count(self) -> int: ...
    @property
    def entries(self) -> int: ...

class RateOptions(TypedDict):
    """The step size of an epoch: csrc/rules/rates.hpp."""

    schedule: str
    eta0: float
    power_t: float
    alpha: float
    offset: float
    adagrad: bool

class EpochOptions(RateOptions):
    """All options of an epoch: csrc/models/linear/model.hpp."""

    loss: str
    epsilon: float
    l2: float
    l1: float
    intercept_step: float
    average: bool
    deterministic: bool
    diagnose: bool
    adds: str
    discipline: str
    seed: int
    epoch: int
    steps: int
    period: int
    measure: int
    tail_every: int

class LinearModel(metaclass=_pybind11_type):
    """p_o = w_0o + sum_j w_jo x_j, by places (place 0: the intercept), an element for each output."""

    def __init__(
        self, places: int, head: int, outputs: int, threads: int, precision: str = "float32",
        adagrad: bool = False, average: bool = False,
    ) -> None: ...  # fmt: skip
    def load(self, from_: NDArray[np.float32], /) -> None: ...
    def read(self, out: NDArray[np.float32], /) -> None: ...
    def read_average(self, out: NDArray[np.float32], /) -> None: ...
    def load_average(self, from_: NDArray[np.float32], averaged: list[int], reach: int, /) -> None: ...
    @property
    def averaged(self) -> list[int]:
        """How many iterates are in each thread's part of the average."""
    @property
    def reach(self) -> int:
        """Places from here on have never been touched."""
    def load_squares(self, from_: NDArray[np.float32], /) -> None: ...
    def read_squares(self, out: NDArray[np.float32], /) -> None: ...
    def epoch(
        self, rows: SparseRows, per_touch: NDArray[np.float32] | None, options: EpochOptions
    ) -> dict[str, Any]:
        """Train every thread on its part of the rows; return the mean loss and what the threads did.

        TypeError where an option is missing, unknown or of another type. KeyboardInterrupt ends it within 50 ms,
        partly trained.
        """

# ---- matrix factorization ----

class RatingGrid(metaclass=_pybind11_type):
    """Ratings, cut into blocks of users and items that hold about as many each, shuffled in each cell."""

    def __init__(
        self,
        users: NDArray[np.uint32],
        items: NDArray[np.uint32],
        values: NDArray[np.float32],
        shape: tuple[int, int],
        blocks: tuple[int, int],
        seed: int,
        weights: NDArray[np.float32] | None = None,
    ) -> None: ...
    @property
    def ratings(
        self,
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32]]:
        """Copies of users, items, values and weights, as they lie."""

    @property
    def begins(self) -> NDArray[np.uint64]:
        """Where each cell begins: the user blocks of the first item block, then those of the next."""

    @property
    def user_cuts(self) -> NDArray[np.uint32]: ...
    @property
    def item_cuts(self) -> NDArray[np.uint32]: ...

class SeenPairs(metaclass=_pybind11_type):
    """Pairs (user, item) that were seen; draws others beside them."""

    def __init__(
        self,
        users: NDArray[np.uint32],
        items: NDArray[np.uint32],
        weights: NDArray[np.float32],
        shape: tuple[int, int],
    ) -> None: ...
    def drawn(self, each: int, blocks: tuple[int, int], seed: int, epoch: int, threads: int = 1) -> RatingGrid:
        """The seen, of value 1, and for each of them `each` of the same user and any item, of value 0 and weight
        1, those that were seen left out; a random stream a user and epoch."""

class FactorRows(metaclass=_pybind11_type):
    """Users' or items' rows, and what belongs to each row; written in place."""

    def __init__(
        self,
        rows: NDArray[Any],
        bias: NDArray[np.float32] | None = None,
        squares: NDArray[np.float32] | None = None,
        l2_of: NDArray[np.float32] | None = None,
        l2: float = 0.0,
    ) -> None: ...

class Rotation(metaclass=_pybind11_type):
    """Workers keep their users; two slices of the items a worker go round a ring of workers."""

    def __init__(
        self,
        grid: RatingGrid,
        workers: int,
        order: Literal["ring", "permutation"] = "ring",
        seconds: float = ...,
        seed: int = 0,
    ) -> None: ...

class Factors(metaclass=_pybind11_type):
    """The two sides of a factorization; visits move them in place."""

    def __init__(self, users: FactorRows, items: FactorRows, rank: int) -> None: ...
    def hogwild(
        self,
        grid: RatingGrid,
        rate: float,
        threads: int = 1,
        seed: int = 0,
        epoch: int = 0,
        adds: Literal["racy", "exact"] = "racy",
        isa: str = "",
    ) -> tuple[float, int]:
        """One epoch; the sum of e^2, each before its own update, and the ratings visited. Raises what a signal's
        handler raises."""

    def rotate(self, rotation: Rotation, rate: float, isa: str = "") -> tuple[float, int]:
        """One iteration: every worker meets every slice once; as `hogwild`."""

class SparseExamples(metaclass=_pybind11_type):
    """CSR rows, and what is to be learned of each; a feature at most once a row."""

    def __init__(
        self,
        begin: NDArray[np.int64],
        feature: NDArray[np.int32],
        value: NDArray[np.float32],
        target: NDArray[np.float32],
        weight: NDArray[np.float32] | None,
        features: int,
    ) -> None: ...

class FactorMachine(metaclass=_pybind11_type):
    """A factorization machine; learning moves its arrays in place. `heads` holds 4 numbers a feature: w, the sums
    of squares of w's and of v's gradients (begun at 1), and one that is not used."""

    def __init__(
        self,
        v: NDArray[np.float32],
        heads: NDArray[np.float32],
        intercept: NDArray[np.float32] | None,
        rank: int,
        l2: float,
        l2_linear: float,
        adagrad: bool,
    ) -> None: ...
    def learn(
        self,
        examples: SparseExamples,
        loss: Literal["squared", "logistic"],
        rate: float,
        threads: int = 1,
        seed: int = 0,
        epoch: int = 0,
        isa: str = "",
    ) -> float:
        """One epoch; the sum of the losses, each before it was learned."""

    def score(self, examples: SparseExamples, threads: int = 1, isa: str = "") -> NDArray[np.float32]:
        """Every example's p."""

# ---- files of sparse rows: csrc/bind/sparse/svmlight.cpp ----

largest_feature: int

class _SparseFile(metaclass=_pybind11_type):
    """Rows of an open svmlight file, read in several threads; ValueError begins with the line's number.

    begin, end: the lines that begin after the one byte (or at byte 0) and not after the other; None: all.
    least, greatest: features, as the file numbers them. After an error, nothing can be had of it.
    """

    def __init__(
        self,
        descriptor: int,
        begin: int,
        end: int | None,
        least: int,
        greatest: int,
        queries: bool,
        threads: int,
    ) -> None: ...
    def scan(self) -> None:
        """Reads to the end and keeps nothing but the range."""

    def fill(self, rows: int | None) -> None:
        """Reads on until so many rows wait (None: to the end)."""

    def take(self, rows: int | None, base: int) -> tuple[NDArray[Any], ...]:
        """The next rows: starts, features less base, values, targets, queries (none, where not asked for)."""

    def range(self) -> tuple[int, int, int]:
        """The least and the greatest feature so far, -1 without any, and the first line with the greatest."""

class SparseFile32(_SparseFile): ...
class SparseFile64(_SparseFile): ...

# ---- end of files of sparse rows ----
