"""What every op promises, by discovery: native equals the numpy body bit for bit, and the rest is refused."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from loosestep import _core, ops

LENGTHS = [0, 1, 15, 16, 17, 4095, 4096, 4097, 10**6 + 3]
DTYPES = [np.float32, np.float64]
SHARED = ["axpy", "sgd", "momentum", "nesterov", "adam"]
names = pytest.mark.parametrize("name", ops.specification)
isas = pytest.mark.parametrize("isa", _core.isas())
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def parameters(name: str) -> dict[str, str]:
    found = inspect.signature(ops.specification[name]).parameters
    return {p.name: str(p.annotation) for p in found.values()}


def native(isa: str, name: str) -> Callable[..., Any]:
    """Every op exists in every instruction set, but those that read element by element."""
    return getattr(_core.isa(isa), name, None) or getattr(_core, name)


def buffer(rng: np.random.Generator, n: int, dtype: type, offset: int = 0) -> np.ndarray:
    """Values of very different sizes, `offset` elements after a 64-byte boundary."""
    room = np.empty(n + 32, dtype)
    start = -room.ctypes.data % 64 // room.itemsize + offset
    out = room[start : start + n]
    out[:] = rng.standard_normal(n) * 10.0 ** rng.integers(-3, 4, n)
    return out


def arguments(name: str, n: int, dtype: type, offset: int = 0, seed: int = 0) -> dict[str, Any]:
    """Arguments of each kind that a signature names; with an offset, each buffer at another alignment."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for position, (parameter, kind) in enumerate(parameters(name).items()):
        if kind == "Buffer":
            made[parameter] = buffer(rng, n, dtype, offset * (position + 1) % 16)
        elif kind == "Sequence[Buffer]":
            made[parameter] = [buffer(rng, n, dtype, offset) for _ in range(3)]
        elif kind.startswith("Sequence[float]"):
            made[parameter] = [0.3, 0.0, 1.7]
        else:
            made[parameter] = 3 if kind == "int" else 0.1 + 0.09 * position
    if name == "adam":
        np.abs(made["v"], out=made["v"])
    return made


def buffers_of(given: dict[str, Any]) -> list[np.ndarray]:
    lists = [value if isinstance(value, list) else [value] for value in given.values()]
    return [each for values in lists for each in values if isinstance(each, np.ndarray)]


def assert_same(name: str, function: Callable[..., Any], given: dict[str, Any]) -> None:
    wanted = copy.deepcopy(given)
    result, want = function(**given), ops.specification[name](**wanted)
    assert repr(result) == repr(want)
    for got, expected in zip(buffers_of(given), buffers_of(wanted), strict=True):
        assert got.tobytes() == expected.tobytes()


@names
def test_the_public_name_is_the_native_function(name: str) -> None:
    assert inspect.isbuiltin(getattr(ops, name))


@names
def test_signature_and_text_come_from_the_body(name: str) -> None:
    public = getattr(ops, name)
    assert list(inspect.signature(public).parameters) == list(parameters(name))
    assert public.__doc__ == inspect.getdoc(ops.specification[name])
    assert pickle.loads(pickle.dumps(public)) is public


@names
@isas
@dtypes
@pytest.mark.parametrize("n", LENGTHS)
def test_native_equals_body_bit_for_bit(name: str, isa: str, dtype: type, n: int) -> None:
    assert_same(name, native(isa, name), arguments(name, n, dtype, seed=n))


@names
@isas
@dtypes
@pytest.mark.parametrize("offset", [1, 3, 7])
@pytest.mark.parametrize("n", [17, 1000])
def test_alignment_does_not_matter(name: str, isa: str, dtype: type, n: int, offset: int) -> None:
    assert_same(name, native(isa, name), arguments(name, n, dtype, offset, seed=n + offset))


@pytest.fixture(params=[1, 2, 3, 7])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = _core.threads()
    _core.set_threads(request.param)
    yield request.param
    _core.set_threads(before)


@names
@dtypes
def test_the_number_of_threads_does_not_matter(name: str, dtype: type, threads: int) -> None:
    assert_same(name, getattr(ops, name), arguments(name, 10**6 + 3, dtype))


@pytest.mark.parametrize("name", [name for name in ops.specification if "out" in parameters(name)])
@isas
@dtypes
@pytest.mark.parametrize("offset", [0, 5])
def test_large_results_have_the_same_bits(name: str, isa: str, dtype: type, offset: int) -> None:
    """They are stored past the caches."""
    n = 34 * 2**20 // (2 * np.dtype(dtype).itemsize) + 3
    assert_same(name, native(isa, name), arguments(name, n, dtype, offset))


@dtypes
def test_large_results_may_be_one_of_their_inputs(dtype: type) -> None:
    a, b = np.arange(6e6, dtype=dtype), np.ones(6 * 10**6, dtype)
    want = a - b
    ops.subtract(a, b, out=a)
    assert a.tobytes() == want.tobytes()
    ops.mean_of([a, b], out=b)
    assert b.tobytes() == ((want + 1) / dtype(2)).tobytes()


@names
@dtypes
def test_arrays_of_any_shape_are_flat(name: str, dtype: type) -> None:
    given = arguments(name, 24, dtype)
    flat = copy.deepcopy(given)
    shaped = {
        p: [x.reshape(2, 3, 4) for x in given[p]] if isinstance(given[p], list) else given[p].reshape(2, 3, 4)
        for p in each_buffer(name)
    }
    assert getattr(ops, name)(**(given | shaped)) == getattr(ops, name)(**flat)
    for got, want in zip(buffers_of(shaped), buffers_of(flat), strict=True):
        assert got.tobytes() == want.tobytes()


@names
def test_special_values_pass_through_as_in_the_body(name: str) -> None:
    given = arguments(name, 64, np.float32)
    for x in buffers_of(given):
        x[3], x[17], x[40] = np.inf, np.nan, 1e-42
    wanted = copy.deepcopy(given)
    getattr(ops, name)(**given)
    with np.errstate(invalid="ignore"):
        ops.specification[name](**wanted)
    for got, want in zip(buffers_of(given), buffers_of(wanted), strict=True):
        np.testing.assert_array_equal(got, want)


# What is refused.


def replaced(given: dict[str, Any], parameter: str, bad: Any) -> dict[str, Any]:
    """The arguments with one buffer, or the second of a sequence of them, replaced."""
    value = given[parameter]
    return {**given, parameter: [value[0], bad, *value[2:]] if isinstance(value, list) else bad}


def each_buffer(name: str) -> list[str]:
    return [p for p, kind in parameters(name).items() if "Buffer" in kind]


def written(name: str) -> list[str]:
    """The buffers that the body changes."""
    given = arguments(name, 33, np.float32)
    before = copy.deepcopy(given)
    ops.specification[name](**given)
    return [p for p in each_buffer(name) if not np.array_equal(given[p], before[p])]


every_buffer = pytest.mark.parametrize(
    ("name", "parameter"), [(name, p) for name in ops.specification for p in each_buffer(name)]
)
written_buffer = pytest.mark.parametrize(
    ("name", "parameter"), [(name, p) for name in ops.specification for p in written(name)]
)


def refuse(error: type[Exception], name: str, parameter: str, bad: Any, *says: str) -> None:
    given = replaced(arguments(name, 8, np.float32), parameter, bad)
    before = copy.deepcopy([x.copy() for x in buffers_of(given)])
    with pytest.raises(error) as raised:
        getattr(ops, name)(**given)
    message = str(raised.value)
    assert message.startswith(f"{name}: ")
    for text in says:
        assert text in message
    for x, was in zip(buffers_of(given), before, strict=True):
        assert x.tobytes() == was.tobytes()


@every_buffer
@pytest.mark.parametrize("bad", [[0.0] * 8, None, 1.5, "text", memoryview(bytes(32))], ids=repr)
def test_what_is_no_array_is_refused(name: str, parameter: str, bad: object) -> None:
    refuse(TypeError, name, parameter, bad, parameter, f"got {type(bad).__name__}")


@every_buffer
@pytest.mark.parametrize("other", ["float16", "int32", "complex64", ">f4", "longdouble"])
def test_other_types_are_refused(name: str, parameter: str, other: str) -> None:
    refuse(TypeError, name, parameter, np.ones(8, other), parameter, f"got {np.dtype(other)}")


@every_buffer
def test_mixed_types_are_refused(name: str, parameter: str) -> None:
    if len(each_buffer(name)) > 1:
        refuse(TypeError, name, parameter, np.ones(8), "float64")


@every_buffer
def test_strided_arrays_are_refused(name: str, parameter: str) -> None:
    refuse(ValueError, name, parameter, np.ones(16, np.float32)[::2], parameter, "contiguous", "strided")


@every_buffer
def test_unaligned_arrays_are_refused(name: str, parameter: str) -> None:
    odd = np.frombuffer(bytearray(33), np.float32, offset=1)
    refuse(ValueError, name, parameter, odd, parameter, "unaligned")


@every_buffer
def test_other_lengths_are_refused(name: str, parameter: str) -> None:
    if len(each_buffer(name)) > 1:
        refuse(ValueError, name, parameter, np.ones(7, np.float32), "element", "7", "8")


@written_buffer
def test_read_only_arrays_are_refused_where_they_are_written(name: str, parameter: str) -> None:
    x = np.ones(8, np.float32)
    x.flags.writeable = False
    refuse(ValueError, name, parameter, x, parameter, "writable", "read-only")


@written_buffer
def test_written_arrays_overlap_no_other(name: str, parameter: str) -> None:
    given = arguments(name, 8, np.float32)
    for other in each_buffer(name):
        if other != parameter:
            room = np.ones(9, np.float32)
            overlapping = replaced(given | {parameter: room[1:]}, other, room[:8])
            with pytest.raises(ValueError, match="must not overlap"):
                getattr(ops, name)(**overlapping)


def test_read_only_arrays_are_read() -> None:
    x = np.ones(3, np.float32)
    x.flags.writeable = False
    assert ops.dot(x, x) == 3.0


@names
def test_wrong_numbers_of_arguments_are_refused(name: str) -> None:
    given = arguments(name, 8, np.float32)
    first = next(iter(given))
    with pytest.raises(TypeError, match=f"{name}: takes {len(given)} arguments, got {len(given) + 1}"):
        getattr(ops, name)(*given.values(), 1.0)
    with pytest.raises(TypeError, match=f"{name}: unknown argument nonsense"):
        getattr(ops, name)(**given, nonsense=1.0)
    with pytest.raises(TypeError, match=f"{name}: {first} is missing"):
        getattr(ops, name)(**{k: v for k, v in given.items() if k != first})
    with pytest.raises(TypeError, match=f"{name}: {first} was given twice"):
        getattr(ops, name)(given[first], **given)


@pytest.mark.parametrize("bad", ["0.1", None, np.ones(1), 1j], ids=repr)
def test_a_scalar_is_a_number(bad: object) -> None:
    x, c = np.ones(2), np.ones(2)
    with pytest.raises(TypeError, match=f"elastic: rate must be a number, got {type(bad).__name__}|float64"):
        ops.elastic(x, c, bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("good", [1, True, np.float32(1), np.float64(1), np.int64(1)], ids=repr)
def test_any_number_is_a_scalar(good: Any) -> None:
    x = np.full(2, 3.0)
    ops.scale(x, good)
    assert x.tolist() == [3.0, 3.0]


# What single ops promise beyond their bodies.


def test_out_may_be_a_buffer_that_is_read() -> None:
    x, y = np.arange(5.0), np.ones(5)
    ops.subtract(x, y, out=x)
    assert x.tolist() == [-1, 0, 1, 2, 3]
    ops.mean_of([x, y], out=y)
    assert y.tolist() == [0, 0.5, 1, 1.5, 2]


def test_a_buffer_of_weight_zero_is_not_read() -> None:
    x, bad, out = np.ones(4), np.full(4, np.nan), np.empty(4)
    ops.mean_of([bad, x, bad], out, weights=[0, 2, 0])
    assert out.tolist() == [1.0] * 4


@dtypes
def test_equal_weights_are_no_weights(dtype: type) -> None:
    rng = np.random.default_rng(1)
    buffers = [buffer(rng, 100, dtype) for _ in range(5)]
    plain, weighted = np.empty(100, dtype), np.empty(100, dtype)
    ops.mean_of(buffers, plain)
    ops.mean_of(buffers, weighted, weights=[0.1] * 5)
    assert plain.tobytes() == weighted.tobytes()


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([1], "weights must be 2, one for each buffer, got 1"),
        ([0, 0], "weights must not all be 0"),
        ([1, -1], "weights must be finite and at least 0, got -1"),
        ([1, np.nan], "weights must be finite and at least 0, got nan"),
        ([1, np.inf], "weights must be finite and at least 0, got inf"),
    ],
)
def test_bad_weights_are_refused(weights: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ops.mean_of([np.ones(2), np.ones(2)], np.ones(2), weights=weights)


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="mean_of: buffers must hold at least 1 array, got 0"):
        ops.mean_of([], np.ones(2))


@dtypes
@pytest.mark.parametrize("n", [1, 17, 10**5])
def test_nesterov_elastic_is_the_two_ops_in_sequence(dtype: type, n: int) -> None:
    x, v, g, c = (buffer(np.random.default_rng(i), n, dtype) for i in range(4))
    x2, v2, c2 = x.copy(), v.copy(), c.copy()
    ops.nesterov_elastic(x, v, g, c, 0.1, 0.9, 0.3)
    ops.nesterov(x2, v2, g, 0.1, 0.9)
    ops.elastic(x2, c2, 0.3)
    assert (x.tobytes(), v.tobytes(), c.tobytes()) == (x2.tobytes(), v2.tobytes(), c2.tobytes())


@pytest.mark.parametrize("step", [0, -1])
def test_adam_counts_from_one(step: int) -> None:
    with pytest.raises(ValueError, match=f"adam: step must be at least 1, got {step}"):
        ops.adam(*(np.ones(2) for _ in range(4)), 0.1, 0.9, 0.999, 1e-8, step)


@isas
@pytest.mark.parametrize("where", [0, 31, 4096, 9999])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_element_is_found(isa: str, where: int, bad: float) -> None:
    x = np.full(10_000, 1e38, np.float32)
    assert _core.isa(isa).all_finite(x) is True
    x[where] = bad
    assert _core.isa(isa).all_finite(x) is False


def test_a_dot_product_is_as_good_as_a_double_one() -> None:
    x = np.full(10**6, 0.1, np.float32)
    assert ops.dot(x, x) == pytest.approx(10**6 * float(np.float32(0.1)) ** 2, rel=1e-12)


# Threads, processes, shared vectors.


@pytest.mark.parametrize("namespace", [ops.exact, ops.racy], ids=["exact", "racy"])
@pytest.mark.parametrize("name", SHARED)
@dtypes
@pytest.mark.parametrize("n", [0, 1, 17, 10**6 + 3])
def test_alone_a_shared_update_is_the_plain_one(namespace: Any, name: str, dtype: type, n: int) -> None:
    assert_same(name, getattr(namespace, name), arguments(name, n, dtype))


def together(count: int, work: Callable[[int], None]) -> None:
    start = threading.Barrier(count)

    def run(rank: int) -> None:
        start.wait(10)
        work(rank)

    workers = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@dtypes
def test_exact_adds_from_many_threads_are_all_there(dtype: type) -> None:
    """Sums of small integers have no rounding: what is missing was lost."""
    n, times = 64 << 10, 20
    shared, ones = np.zeros(n, dtype), np.ones(n, dtype)

    def work(rank: int) -> None:
        for _ in range(times):
            ops.exact.axpy(shared, ones, rank + 1.0)

    together(4, work)
    assert (shared == times * (1 + 2 + 3 + 4)).all()


def test_a_snapshot_holds_values_that_were_there() -> None:
    shared, out, ones = np.zeros(1000), np.empty(1000), np.ones(1000)

    def work(rank: int) -> None:
        for _ in range(200):
            ops.exact.axpy(shared, ones, 1.0) if rank else ops.load(shared, out)

    together(3, work)
    assert (shared == 400).all()
    assert np.isin(out, np.arange(401)).all()


def test_large_calls_in_other_threads_give_the_same_bits() -> None:
    given = arguments("elastic", 10**6 + 3, np.float32)
    wanted = copy.deepcopy(given)
    ops.elastic(**wanted)
    together(1, lambda rank: ops.elastic(**given))
    assert given["x"].tobytes() == wanted["x"].tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_can_go_on() -> None:
    """OpenMP's threads do not survive a fork: a large call in the child would wait for ever."""
    program = (
        "import os, numpy as np\n"
        "from loosestep import ops\n"
        "x, c = np.ones(1 << 20), np.zeros(1 << 20)\n"
        "ops.elastic(x, c, 0.5)\n"
        "child = os.fork()\n"
        "ops.elastic(x, c, 0.5)\n"
        "if child == 0: os._exit(7 if x[0] == 0.5 else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "7"


def test_threads_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        _core.set_threads(0)


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"isa must be one of .*, got 'mmx'"):
        _core.isa("mmx")
