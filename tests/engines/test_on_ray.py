"""Work on a real Ray cluster of two nodes on this machine, one of which is killed: the result is that of one process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import seehear
from seehear.cli import main
from seehear.errors import SeehearError, UsageError
from tests.joining.conftest import mixed  # noqa: F401 - a fixture
from tests.joining.parted import small_blocks, work  # noqa: F401 - fixtures
from tests.search.made import copied

ray = pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")

from ray.cluster_utils import Cluster  # noqa: E402

from seehear.engines import Task, Work, on_ray, run  # noqa: E402
from tests.engines import ray_work  # noqa: E402
