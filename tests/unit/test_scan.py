import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numba.core.dispatcher import Dispatcher

from nwbrnn.errors import ShapeError
from nwbrnn.models import loops
from nwbrnn.models import scan as module
from nwbrnn.models.products import multiply, pack, pad
from nwbrnn.models.scan import activate, scan, scan_and_read

SIZES = [(1, 1, 1), (7, 3, 5), (4, 2, 4), (3, 7, 13), (5, 10, 40), (2, 64, 9), (3, 8, 50)]
NONLINEARITIES = ["tanh", "softplus", "soc"]


def create_problem(n_time=7, n_trials=3, n_hidden=5, *, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (n_time, n_trials, n_hidden), (n_hidden, n_hidden), (n_trials, n_hidden)
    drive, weights, initial = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    keep = torch.rand(n_hidden, generator=generator, dtype=torch.float64)
    given = drive, weights / n_hidden**0.5, initial, keep
    return [value.to(dtype).requires_grad_() for value in given]


def run_autograd_loop(drive, weights, initial, keep, nonlinearity="tanh"):
    state, rates = initial, []
    for step in drive:
        state = keep * state + activate(state, nonlinearity) @ weights.T + step
        rates.append(activate(state, nonlinearity))
    return torch.stack(rates)


def compute_gradients(run, problem):
    rates = run(*problem)
    seen = torch.randn(rates.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    loss = (rates * seen.to(rates.dtype)).sum()
    return [rates.detach(), *torch.autograd.grad(loss, problem)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_rates_and_gradients_equal_an_autograd_loop(monkeypatch, sizes, nonlinearity, compiled):
    if not compiled:
        monkeypatch.setattr(module, "is_compiled", lambda values: False)
    problem = create_problem(*sizes)
    fast = compute_gradients(lambda *args: scan(*args, nonlinearity=nonlinearity), problem)
    slow = compute_gradients(lambda *args: run_autograd_loop(*args, nonlinearity), problem)
    for got, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sizes", [(7, 3, 5, 2), (3, 8, 50, 1), (4, 2, 4, 9)], ids=str)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_outputs_and_rates_pass_on_their_gradients_together(monkeypatch, sizes, compiled):
    if not compiled:
        monkeypatch.setattr(module, "is_compiled", lambda values: False)
    *sizes, n_outputs = sizes
    problem = create_problem(*sizes)
    generator = torch.Generator().manual_seed(5)
    readout = torch.randn(n_outputs, sizes[-1], generator=generator, dtype=torch.float64).requires_grad_()

    def read_apart(*given):
        rates = run_autograd_loop(*given[:-1])
        return rates @ given[-1].T, rates

    found = []
    for run in (scan_and_read, read_apart):
        outputs, rates = run(*problem, readout)
        loss = outputs.square().sum() + (rates * rates.detach().cos()).sum()
        found.append([outputs, rates, *torch.autograd.grad(loss, [*problem, readout])])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(3, 5), (40, 16), (7, 32), (20, 33), (64, 48), (9, 49), (200, 70)], ids=str
)
def test_a_product_does_not_depend_on_how_many_rows_there_are(dtype, shape):
    rng = np.random.default_rng(0)
    rows, matrix = rng.normal(size=(23, shape[0])).astype(dtype), rng.normal(size=shape).astype(dtype)
    panels = pack(matrix)
    whole = np.full((23, pad(shape[1], dtype().itemsize)), np.nan, dtype)
    multiply(rows, panels, whole)
    found, expected = whole[:, : shape[1]], rows.astype(float) @ matrix
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e3 * np.finfo(dtype).eps)
    assert not whole[:, shape[1] :].any()
    for n_rows in (1, 2, 3, 4, 5, 6, 8, 10, 16):
        around = np.full((n_rows + 2, whole.shape[1]), np.nan, dtype)
        multiply(rows[:n_rows], panels, around[1:-1])
        np.testing.assert_array_equal(around[1:-1], whole[:n_rows])
        assert np.isnan(around[[0, -1]]).all()


@pytest.mark.parametrize("n", [9, 32, 70])
def test_a_product_of_no_rows_writes_nothing(n):
    around = np.full((3, pad(n, 8)), np.nan)
    multiply(np.ones((2, 5))[1:1], pack(np.ones((5, n))), around[1:1])
    assert np.isnan(around).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(3, 1, 1, 1), (41, 5, 23, 33), (20, 30, 40, 70), (1, 200, 7, 48)], ids=str)
def test_products_of_all_rows_equal_those_of_numpy(dtype, sizes):
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(*sizes[:2], n)).astype(dtype) for n in sizes[2:])
    readout = rng.normal(size=(3, sizes[2])).astype(dtype)
    limits = {"rtol": 0, "atol": 1e4 * np.finfo(dtype).eps}
    summed = np.einsum("tbi,tbj->ij", left.astype(float), right)
    np.testing.assert_allclose(loops.sum_products(left, right), summed, **limits)
    np.testing.assert_allclose(loops.read(left, readout), left.astype(float) @ readout.T, **limits)


@pytest.mark.slow
def test_a_processor_without_fused_operations_calls_no_function_for_them(tmp_path):
    code = """
import numpy as np
from nwbrnn.models.products import multiply, pack, pad
rows, matrix = np.random.default_rng(0).normal(size=(7, 40)), np.random.default_rng(1).normal(size=(40, 40))
out = np.empty((7, pad(40, 8)))
multiply(rows, pack(matrix), out)
np.testing.assert_allclose(out, rows @ matrix, rtol=0, atol=1e-12)
(text,) = multiply.inspect_asm().values()
print("vfmadd" in text, "fma" in text.replace("vfmadd", ""))
"""
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | plain, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_scan_passes_gradcheck(monkeypatch, nonlinearity, compiled):
    if not compiled:
        monkeypatch.setattr(module, "is_compiled", lambda values: False)
    problem = create_problem(4, 2, 3)
    assert torch.autograd.gradcheck(lambda *args: scan(*args, nonlinearity=nonlinearity), problem)


@pytest.mark.parametrize("which", range(4))
def test_gradients_equal_central_differences(which):
    problem = create_problem()
    gradient = torch.autograd.grad(scan(*problem).square().sum(), problem)[which]
    direction = torch.randn(
        problem[which].shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )

    def compute_loss(step):
        moved = [p.detach() + step * direction if i == which else p.detach() for i, p in enumerate(problem)]
        return run_autograd_loop(*moved).square().sum().item()

    expected = (compute_loss(1e-5) - compute_loss(-1e-5)) / 2e-5
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("sizes", [(60, 10, 40), (30, 3, 17)], ids=str)
def test_float32_is_near_float64(nonlinearity, sizes):
    single, double = (
        compute_gradients(
            lambda *args: scan(*args, nonlinearity=nonlinearity), create_problem(*sizes, dtype=dtype)
        )
        for dtype in (torch.float32, torch.float64)
    )
    for got, expected in zip(single, double, strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-4 * scale)


def test_the_tanh_of_float32_is_within_a_millionth():
    x = torch.linspace(-12, 12, 100_001)
    drive = x.reshape(1, -1, 1)
    weights, initial, keep = torch.zeros(1, 1), torch.zeros(len(x), 1), torch.zeros(1)
    got = scan(drive, weights, initial, keep).flatten().numpy()
    np.testing.assert_allclose(got, np.tanh(x.numpy().astype(float)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_nan_is_not_lost(dtype, which, nonlinearity):
    problem = [value.detach() for value in create_problem(5, 2, 6, dtype=dtype)]
    problem[which][(0,) * problem[which].ndim] = float("nan")
    assert scan(*problem, nonlinearity=nonlinearity)[-1].isnan().any()


def test_layouts_in_memory_do_not_matter():
    drive, weights, initial, keep = (value.detach() for value in create_problem(6, 4, 5))
    strided = [
        drive.transpose(0, 1).contiguous().transpose(0, 1),
        weights.T.contiguous().T,
        initial[:1].expand(4, -1),
        torch.stack([keep, keep], dim=1)[:, 0],
    ]
    initial = initial[:1].repeat(4, 1)
    expected, got = [], []
    for given, found in (([drive, weights, initial, keep], expected), (strided, got)):
        leaves = [value.requires_grad_() for value in given]
        rates = scan(*leaves)
        seen = torch.arange(rates.numel(), dtype=torch.float64).reshape(4, 6, 5).transpose(0, 1)
        found += [rates, *torch.autograd.grad((rates * seen).sum(), leaves)]
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(one, other)


def test_scan_leaves_its_arguments_alone():
    problem = create_problem()
    before = [p.detach().clone() for p in problem]
    scan(*problem).sum().backward()
    for now, then in zip(problem, before, strict=True):
        torch.testing.assert_close(now.detach(), then, rtol=0, atol=0)


def test_scan_refuses_a_second_derivative():
    problem = create_problem()
    loss = scan(*problem).square().sum()
    (gradient,) = torch.autograd.grad(loss, problem[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("which", "change"),
    [
        ("drive", lambda v: v[0]),
        ("weights", lambda v: v[:, :-1]),
        ("weights", lambda v: v[:-1]),
        ("weights", lambda v: torch.cat([v, v])),
        ("weights", lambda v: v[0, 0]),
        ("initial", lambda v: v[:-1]),
        ("initial", lambda v: v[:, :1]),
        ("keep", lambda v: v[:-1]),
        ("keep", lambda v: v[:1]),
    ],
)
def test_scan_refuses_shapes_that_do_not_fit(which, change):
    problem = dict(zip(("drive", "weights", "initial", "keep"), create_problem(), strict=True))
    with pytest.raises(ShapeError, match=f"^{which}: expected"):
        scan(**problem | {which: change(problem[which])})


@pytest.mark.parametrize("which", [1, 2, 3])
def test_scan_refuses_types_that_differ(which):
    problem = [value.detach() for value in create_problem()]
    problem[which] = problem[which].float() if which != 1 else problem[which].to(torch.int64)
    with pytest.raises(ShapeError, match="float64"):
        scan(*problem)


def create_arrays(function):
    generator = np.random.default_rng(0)
    shapes = {
        "drive": (4, 3, 5), "rates": (5, 3, 5), "states": (1, 3, 5), "square": (5, 5), "keep": (5,),
        "outputs": (4, 3, 2), "readout": (2, 5),
    }  # fmt: skip
    if function is loops.run_forward:
        kinds = [["drive"], ["square"], ["keep"], ["kind"], ["states"], ["rates"]]
    elif function is loops.read:
        kinds = [["rates"], ["readout"]]
    elif function is loops.sum_products:
        kinds = [["rates"], ["rates"]]
    else:
        kinds = [["drive", "outputs"], ["rates"], ["square", "keep", "readout"], ["kind"], ["rates"]]
    draw = lambda kind: loops.TANH if kind == "kind" else generator.normal(size=shapes[kind])  # noqa: E731
    return [[draw(kind) for kind in group] for group in kinds]


def call(function, groups):
    function(*[group[0] if len(group) == 1 else tuple(group) for group in groups])


DAMAGES = {
    "shorter": lambda v: np.ascontiguousarray(v[:-1]) if len(v) > 1 else np.ascontiguousarray(v[:, :-1]),
    "narrower": lambda v: np.ascontiguousarray(v[..., :-1]),
    "longer": lambda v: np.concatenate([v, v, v]),
    "scalar": lambda v: v.ravel()[0].reshape(()),
    "another type": lambda v: v.astype(np.int64),
    "half the precision": lambda v: v.astype(np.float32),
    "other strides": lambda v: np.repeat(v, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("function", [loops.run_forward, loops.run_backward])
def test_nothing_that_does_not_fit_reaches_a_compiled_loop(function, damage):
    call(function, create_arrays(function))
    for i, group in enumerate(create_arrays(function)):
        for j, value in enumerate(group):
            if isinstance(value, np.ndarray):
                groups = create_arrays(function)
                groups[i][j] = damage(groups[i][j])
                with pytest.raises(ShapeError):
                    call(function, groups)


@pytest.mark.parametrize(
    "damage", ["other sizes", "scalar", "another type", "half the precision", "other strides"]
)
@pytest.mark.parametrize("function", [loops.read, loops.sum_products])
def test_nothing_that_does_not_fit_is_multiplied(function, damage):
    first, second = (group[0] for group in create_arrays(function))
    function(first, second)
    unfit = {"other sizes": "narrower" if function is loops.read else "shorter"}.get(damage, damage)
    with pytest.raises(ShapeError):
        function(first, DAMAGES[unfit](second))


def test_every_compiled_function_is_behind_a_check():
    compiled = {name for name, value in vars(loops).items() if isinstance(value, Dispatcher)}
    assert compiled
    assert all(name.startswith("_") for name in compiled)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_scan_on_a_gpu_agrees_with_the_cpu(nonlinearity):
    found = []
    for device in ("cpu", "cuda"):
        problem = [value.detach().to(device).requires_grad_() for value in create_problem(30, 4, 16)]
        rates = scan(*problem, nonlinearity=nonlinearity)
        found.append([rates, *torch.autograd.grad(rates.square().sum(), problem)])
    for on_cpu, on_gpu in zip(*found, strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-9, atol=1e-9)
