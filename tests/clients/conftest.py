"""What every test file shares: one simulator, one proxy, and a memory of all that clients were told."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import Proxy, Simulator, write_config


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rig")


@pytest.fixture(scope="session")
def simulator(folder: Path) -> Iterator[Simulator]:
    simulator = Simulator(os.environ["SIMULATOR"], folder)
    yield simulator
    simulator.stop()


@pytest.fixture(scope="session")
def proxy(folder: Path, simulator: Simulator) -> Iterator[Proxy]:
    config = write_config(folder, simulator)
    proxy = Proxy(os.environ["PROXY"], config, log=Path(os.environ["PROXY_LOG"]))
    yield proxy
    proxy.stop()


@pytest.fixture(scope="session")
def told() -> list[str]:
    """Everything that clients were told: test files add the answers that they see."""
    return []


@pytest.fixture(autouse=True)
def fresh_record(simulator: Simulator, proxy: Proxy) -> None:
    """Each test finds only its own requests; the proxy's logins come before the first."""
    simulator.received()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line, for those who read no more."""
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    failed = len(stats.get("failed", [])) + len(stats.get("error", []))
    print(f"{len(stats.get('passed', []))} passed, {failed} failed")
