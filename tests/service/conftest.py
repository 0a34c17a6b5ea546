import pytest
from serving import ROOT, Lines, Service


@pytest.fixture(scope="session")
def service():
    with Service("--workers", "2", "--seconds", "30", "--max-body", "2MB") as own:
        yield own


@pytest.fixture(scope="session")
def narrow():
    """A service of one worker with what is asked of one: few connections, files of a folder, two fits."""
    options = ("--connections", "3", "--allow-files", str(ROOT / "data"), "--keep", "2")
    with Service("--workers", "1", *options) as own:
        yield own


@pytest.fixture(scope="module")
def lines():
    own = Lines()
    yield own
    own.end()
