"""Run the cells of a sweep, on processes of this machine or on a Dask cluster."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from nwbrnn.addresses import strip_secrets
from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
from nwbrnn.dataset import hash_dataset
from nwbrnn.errors import ConfigError, ExportError
from nwbrnn.formats import write_dataset
from nwbrnn.progress import show_cells
from nwbrnn.readers import PoolPlan, outline_sessions, read_nwb, read_session
from nwbrnn.storage.atomic import write_json
from nwbrnn.storage.paths import check_apart, is_ours
from nwbrnn.sweep.cell import (
    CELLS,
    find_result,
    get_error_path,
    get_path,
    read_kept,
    run_cell,
    write_error,
)
from nwbrnn.sweep.grid import Cell, list_cells
from nwbrnn.sweep.local import run_locally
from nwbrnn.sweep.sources import DATA, Stored, check_pools, describe_data, get_data_path
from nwbrnn.sweep.table import create_table
from nwbrnn.training import count_cores

if TYPE_CHECKING:
    from distributed import Client

ABOUT = "sweep.json"
CONNECT_TIMEOUT = 30  # [s]

Progress = Callable[[int, int, int], None]
"""Called with the numbers of finished, failed and all cells."""


def run_sweep(
    files: Sequence[str | Path],
    folder: str | Path,
    grid: SweepConfig | None = None,
    *,
    configs: tuple[ReadConfig, FitConfig] | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Fit and evaluate every combination of files, settings, held-out conditions and seeds.

    Each file is fitted alone, unless ``grid`` pools them: all files in one pool (``pool``), or some of them
    in pools of several sizes (``sessions``). Nothing is written if the files cannot be pooled.

    Finished cells are not repeated, so the same call continues after an interrupt. If a cell fails, or if its
    worker is killed repeatedly, this is recorded and the other cells continue.

    Local workers are processes that import the main script: a script that calls this needs
    ``if __name__ == "__main__":`` around it.

    Parameters
    ----------
    files
        NWB files; see :func:`nwbrnn.read_nwb`.
    folder
        Folder of the sweep, for ``data``, ``cells`` and ``sweep.json``. Workers on other machines must see it
        under the same path.
    grid
        The axes of the sweep.
    configs
        Settings of reading, and settings of the fit that all cells share; ``processes`` is the number of
        cells to fit at a time on this machine.
    scheduler
        Address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``; by default processes of this machine.
    progress
        Called at the beginning and after each cell. By default, a notebook shows the numbers on a line that
        changes.

    Returns
    -------
    xarray.Dataset
        See :func:`nwbrnn.sweep.create_table`.

    Raises
    ------
    ReadError
        If a file cannot be read.
    ConfigError
        If settings do not fit the data, two files have the same name, or the scheduler cannot be used.
    ExportError
        If the folder cannot be written, or holds something else.

    Examples
    --------
    >>> import nwbrnn
    >>> grid = nwbrnn.SweepConfig(sampled=(0, 5), seeds=2)
    >>> table = nwbrnn.run_sweep(["session.nwb"], "sweep", grid)  # doctest: +SKIP
    """
    folder, grid = Path(folder).resolve(), grid or SweepConfig()
    read_config, fit_config = configs or (ReadConfig(), FitConfig())
    names = [_name(file) for file in files]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"files: expected different names, but {', '.join(twice)} occur twice; rename one")
    check_apart([folder, *(get_data_path(folder, name) for name in names)], files)
    plan = _plan_pool(files, names, grid, (read_config, fit_config))
    create_folder(folder, files, grid, (read_config, fit_config))
    cells, data = [], []
    for number, (name, file) in enumerate(zip(names, files, strict=True)):
        if plan is None:
            cells += add_data(folder, name, read_nwb(file, read_config), grid, fit_config)
        else:
            data.append(keep_data(folder, name, read_session(file, plan, number)))
    if plan is not None:
        cells = list_cells(data, grid, fit_config)
    n_workers = fit_config.processes
    with show_cells() if progress is None else nullcontext(progress) as report:
        run_cells(folder, cells, scheduler=scheduler, n_workers=n_workers, progress=report)
    return create_table(folder, cells)


def add_data(folder: Path, name: str, ds: xr.Dataset, grid: SweepConfig, fit_config: FitConfig) -> list[Cell]:
    """Store a Dataset in the folder of a sweep, and return its cells of the grid.

    Parameters
    ----------
    folder
        Folder of the sweep; see :func:`create_folder`.
    name
        Unique name of the Dataset in the sweep.
    ds
        The Dataset.
    grid
        The axes of the sweep.
    fit_config
        Settings that all cells share.

    Raises
    ------
    ConfigError
        If settings do not fit the data.
    ExportError
        If it cannot be written.
    """
    stored = describe_data(name, ds)
    cells = list_cells([stored], grid, fit_config)
    _store(folder, stored, ds)
    return cells


def keep_data(folder: Path, name: str, ds: xr.Dataset) -> Stored:
    """Store a Dataset in the folder of a sweep, unless it is there, and return what the grid depends on.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    stored = describe_data(name, ds)
    _store(folder, stored, ds)
    return stored


def _store(folder: Path, stored: Stored, ds: xr.Dataset) -> None:
    """Write a Dataset into the folder of a sweep, unless it is there."""
    kept = read_kept(folder, stored.name)
    # the same data may come from a file that has another hash by now
    if kept is None or hash_dataset(kept) != stored.data_hash or kept.attrs != ds.attrs:
        write_dataset(ds, get_data_path(folder, stored.name), overwrite=True)


def _plan_pool(
    files: Sequence[str | Path],
    names: Sequence[str],
    grid: SweepConfig,
    configs: tuple[ReadConfig, FitConfig],
) -> PoolPlan | None:
    """Return how to read files that are pooled, and refuse what cannot be before anything is written."""
    if not (grid.pool or grid.sessions):
        return None
    check_pools(len(files), grid)
    plan = outline_sessions(files, configs[0])
    if plan.problems:
        raise ConfigError(*plan.problems)
    expected = [Stored(name, "", one.conditions) for name, one in zip(names, plan.outlines, strict=True)]
    list_cells(expected, grid, configs[1])
    return plan


def _name(file: str | Path) -> str:
    """Return the name of a file without folder and ending."""
    return strip_secrets(str(file)).rstrip("/").rsplit("/", 1)[-1].removesuffix(".zarr").removesuffix(".nwb")


def create_folder(
    folder: Path,
    files: Sequence[str | Path],
    grid: SweepConfig,
    configs: tuple[ReadConfig, FitConfig],
    *,
    pool: str | None = None,
) -> None:
    """Create the folder, or continue in that of an earlier sweep.

    The description of the sweep is written first, so that the folder is recognized however the sweep ends.

    Parameters
    ----------
    folder
        The folder.
    files
        What is fitted.
    grid
        The axes of the sweep.
    configs
        Settings of reading, and settings of the fit that all cells share.
    pool
        What is pooled, if it is something else than all files.

    Raises
    ------
    ExportError
        If the folder cannot be written, or holds something else.
    """
    try:
        if not (folder / ABOUT).exists() and not _is_free(folder):
            raise ExportError(f"{folder}: expected an empty folder or that of a sweep; choose another output")
        folder.mkdir(parents=True, exist_ok=True)
        axes = grid.model_dump(mode="json") | ({} if pool is None else {"pool": pool})
        write_about(folder, files, axes, configs)
        for part in (CELLS, DATA):
            (folder / part).mkdir(exist_ok=True)
    except OSError as error:
        raise ExportError(
            f"{folder}: could not create this folder: {error.strerror}; choose another output"
        ) from error


def _is_free(folder: Path) -> bool:
    """Return whether a folder holds nothing else, so that a sweep can begin there."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(is_ours(path) for path in folder.iterdir())


def write_about(
    folder: Path,
    files: Sequence[str | Path],
    grid: Mapping[str, Any],
    configs: tuple[ReadConfig, FitConfig],
) -> None:
    """Write the description of the sweep."""
    about = {
        "files": [strip_secrets(str(file)) for file in files],
        "grid": dict(grid),
        "read": configs[0].model_dump(mode="json"),
        "fit": configs[1].model_dump(mode="json"),
        "versions": {name: version(name) for name in ("nwbrnn", "torch", "numpy", "xarray")},
    }
    write_json(about, folder / ABOUT, overwrite=True)


def run_cells(
    folder: Path,
    cells: Sequence[Cell],
    *,
    scheduler: str | None = None,
    n_workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Run the cells that are not finished.

    Only results in the folder count, since results that a worker still holds are lost with it. A result that
    is damaged or belongs to another cell is set aside and computed again; see :func:`find_result`.

    Parameters
    ----------
    folder
        Folder of the sweep, with the data of the cells.
    cells
        The cells to fit.
    scheduler
        Address of a Dask scheduler; by default processes of this machine.
    n_workers
        Number of processes; by default one per core.
    progress
        Called at the beginning and after each cell.

    Raises
    ------
    ConfigError
        If the scheduler cannot be used.
    """
    progress = progress or (lambda *_: None)
    pending = {cell.key: cell for cell in cells if find_result(folder, cell) is None}
    n_done, n_failed = len(cells) - len(pending), 0
    progress(n_done, n_failed, len(cells))
    if not pending:
        return
    for cell in pending.values():
        get_error_path(folder, cell).unlink(missing_ok=True)
    n_workers = min(len(pending), n_workers or count_cores())
    ended = (
        run_locally(folder, list(pending.values()), n_workers=n_workers)
        if scheduler is None
        else _run_on_cluster(scheduler, folder, pending)
    )
    with closing(ended):
        for cell, problem in ended:
            failed = not get_path(folder, cell).exists()
            if failed and not get_error_path(folder, cell).exists():
                write_error(folder, cell, problem)
            n_done, n_failed = n_done + (not failed), n_failed + failed
            progress(n_done, n_failed, len(cells))


def _run_on_cluster(
    scheduler: str, folder: Path, pending: Mapping[str, Cell]
) -> Generator[tuple[Cell, str], None, None]:
    """Run cells on a Dask cluster; yield each at its end, with the reason of a failure if known here."""
    try:
        from distributed import as_completed
    except ImportError as missing:
        raise ConfigError(
            f"scheduler: a sweep on a cluster needs the package distributed ({missing}); "
            "run pip install 'nwbrnn[slurm]'"
        ) from missing
    with _connect(scheduler, folder) as client:
        futures = [client.submit(_run_alone, folder, cell, key=key) for key, cell in pending.items()]
        for future in as_completed(futures):
            error = future.exception()
            yield pending[future.key], "" if error is None else f"{type(error).__name__}: {error}"
            future.release()


def _run_alone(folder: Path, cell: Cell) -> None:
    """Run a cell on a worker of a cluster."""
    import dask

    # xarray would take a lock of the cluster to write a file that no other worker uses
    with dask.config.set(scheduler="synchronous"):
        run_cell(folder, cell)


@contextmanager
def _connect(scheduler: str, folder: Path) -> Iterator["Client"]:
    """Provide a client of a cluster that sees the folder."""
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_TIMEOUT)
    except (OSError, ValueError, TypeError) as error:  # TypeError: tls:// without certificates
        raise ConfigError(
            f"scheduler: expected a Dask scheduler at {scheduler!r}, but {error}; "
            "start one with 'dask scheduler'"
        ) from error
    with client:
        client.wait_for_workers(1)
        blind = [worker for worker, sees in client.run(_sees, folder).items() if not sees]
        if blind:
            raise ConfigError(
                f"scheduler: expected workers that see {folder}, but {', '.join(sorted(blind))} do not; "
                "use a folder that all machines share"
            )
        yield client


def _sees(folder: Path) -> bool:
    return (folder / ABOUT).exists()
