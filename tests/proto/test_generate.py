import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROTO_ROOT = Path(__file__).parents[2] / "proto"


def run_generate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the generator of a proto folder."""
    command = [sys.executable, str(root / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def proto_copy(tmp_path: Path) -> Path:
    """Give a copy of the proto folder to change."""
    ignored = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(PROTO_ROOT, tmp_path / "proto", ignore=ignored)


def test_committed_stubs_are_current() -> None:
    """The committed stubs are what the .proto files give, byte for byte."""
    done = run_generate(PROTO_ROOT, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_check_lists_what_differs_and_writing_mends_it(proto_copy: Path) -> None:
    """Changed, stale and missing files are named and left alone by --check, else put right."""
    types = proto_copy / "envoyapi" / "type" / "v3"
    (types / "http_status_pb2.pyi").write_text("")
    (types / "gone_pb2.py").write_text("")
    (types / "semantic_version_pb2.py").unlink()
    listed = [
        "stale: proto/envoyapi/type/v3/gone_pb2.py",
        "changed: proto/envoyapi/type/v3/http_status_pb2.pyi",
        "new: proto/envoyapi/type/v3/semantic_version_pb2.py",
    ]

    done = run_generate(proto_copy, "--check")
    assert (done.returncode, done.stdout.splitlines()) == (1, listed)
    assert (types / "gone_pb2.py").exists()

    done = run_generate(proto_copy)
    assert (done.returncode, done.stdout.splitlines()) == (0, listed)
    assert not (types / "gone_pb2.py").exists()
    assert run_generate(proto_copy, "--check").returncode == 0


def test_mistake_in_a_proto_file_is_shown(proto_copy: Path) -> None:
    """A .proto file that protoc refuses ends in exit code 2, with its name, line and column."""
    broken = proto_copy / "envoyapi" / "type" / "v3" / "semantic_version.proto"
    broken.write_text(broken.read_text().replace("patch = 3", "patch = 2"))
    done = run_generate(proto_copy, "--check")
    assert done.returncode == 2
    assert "envoyapi/type/v3/semantic_version.proto" in done.stderr
    assert "generate.py: protoc failed" in done.stderr
