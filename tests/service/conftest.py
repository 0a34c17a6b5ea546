import pytest
from serving import Service


@pytest.fixture(scope="module")
def service():
    with Service("--workers", "2", "--seconds", "30", "--max-body", "2MB") as own:
        yield own
