"""Regenerate the stubs from the ``.proto`` files, or check that they are current.

``python proto/generate.py`` writes every module under ``proto/envoyapi``, what we speak of Envoy's
API, and ``proto/callsapi``, our own, and removes those whose ``.proto`` file is gone.
``python proto/generate.py --check`` writes nothing, lists each file that would change, and exits 1
if there is one.

It needs the dependency group ``proto``, in exactly the versions that ``pyproject.toml`` names:
grpcio-tools and mypy-protobuf write their versions and habits into what they generate.
"""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

PROTO_ROOT = Path(__file__).resolve().parent
# What each Python package holds, and the package on the wire that it stands for: the names on the
# wire are taken in Python.
PACKAGES = {
    "callsapi": ("Typed stubs of how Ringback's services speak about calls", "ringback"),
    "envoyapi": ("Typed stubs of what Ringback speaks of the Envoy API", "envoy"),
}
GENERATED = ("__init__.py", "*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


class GenerateError(Exception):
    """A tool that the generator needs is missing, or protoc refused a ``.proto`` file."""


def main(argv: list[str] | None = None) -> int:
    """Write the stubs, or check them.

    Args:
        argv: Arguments without the program name; those of the process when absent.

    Returns:
        The exit code: 0 when the stubs are current or were written, 1 when ``--check`` found a
        difference, 2 when nothing could be generated.
    """
    parser = argparse.ArgumentParser(description="Regenerate the stubs from the .proto files.")
    parser.add_argument("--check", action="store_true", help="write nothing, report differences")
    check: bool = parser.parse_args(argv).check
    try:
        wanted = render_stubs()
    except GenerateError as exc:
        print(f"generate.py: {exc}", file=sys.stderr)
        return 2
    present = read_stubs(PROTO_ROOT)
    changed = sorted(
        path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path)
    )
    for path in changed:
        print(f"{describe_change(path, wanted, present)}: proto/{path}")
    if check:
        return 1 if changed else 0
    for path in changed:
        write_stub(path, wanted)
    return 0


def describe_change(path: str, wanted: Mapping[str, bytes], present: Mapping[str, bytes]) -> str:
    """Say in one word what happens to a file: ``new``, ``stale`` or ``changed``."""
    if path not in present:
        return "new"
    return "changed" if path in wanted else "stale"


def write_stub(path: str, wanted: Mapping[str, bytes]) -> None:
    """Bring one file to its wanted content, or remove it when none is wanted."""
    target = PROTO_ROOT / path
    if path in wanted:
        target.write_bytes(wanted[path])
    else:
        target.unlink()


def read_stubs(root: Path) -> dict[str, bytes]:
    """Read every generated file below ``root``, by its path relative to it."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for package in PACKAGES
        for pattern in GENERATED
        for path in (root / package).rglob(pattern)
    }


def render_stubs() -> dict[str, bytes]:
    """Generate every stub in a temporary folder.

    Returns:
        The content of each file by its path relative to ``proto/``.

    Raises:
        GenerateError: If a tool is missing or a ``.proto`` file has a mistake.
    """
    sources = sorted(
        path.relative_to(PROTO_ROOT).as_posix()
        for package in PACKAGES
        for path in (PROTO_ROOT / package).rglob("*.proto")
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        descriptors = out / "descriptors"
        run_protoc(
            f"--plugin=protoc-gen-mypy={find_plugin('protoc-gen-mypy')}",
            f"--python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--descriptor_set_out={descriptors}",
            *sources,
        )
        files = FileDescriptorSet.FromString(descriptors.read_bytes()).file
        with_service = [file for file in files if file.service]
        run_protoc(f"--grpc_python_out={out}", *(file.name for file in with_service))
        stubs = read_stubs(out)
    modules = find_modules(files)
    for file in with_service:
        stub_path = file.name.removesuffix(".proto") + "_pb2_grpc.pyi"
        stubs[stub_path] = render_grpc_stub(file, modules).encode()
    for path in packages_of(sources):
        stubs[f"{path}/__init__.py"] = f'"""{describe_package(path)}."""\n'.encode()
    return stubs


def run_protoc(*arguments: str) -> None:
    """Run protoc in the proto root; it finds google.protobuf in grpcio-tools by itself.

    Raises:
        GenerateError: If google.rpc is not installed or protoc refuses its input.
    """
    spec = importlib.util.find_spec("google.rpc")
    if spec is None or not spec.submodule_search_locations:
        message = "google.rpc is missing: install googleapis-common-protos"
        raise GenerateError(message)
    site = Path(spec.submodule_search_locations[0]).parents[1]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{site}", *arguments]
    # The arguments are our own file names and no shell reads them.
    done = subprocess.run(command, cwd=PROTO_ROOT, check=False)  # noqa: S603
    if done.returncode:
        raise GenerateError("protoc failed: see its messages above, and install the group `proto`")


def find_plugin(name: str) -> str:
    """Find a protoc plugin beside the running interpreter, else on PATH.

    Raises:
        GenerateError: If it is in neither place.
    """
    plugin = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if plugin is None:
        raise GenerateError(f"{name} is missing: install the dependency group `proto`")
    return plugin


def packages_of(sources: Iterable[str]) -> list[str]:
    """List the folders that must be Python packages, the root first."""
    folders = {
        parent.as_posix() for source in sources for parent in Path(source).parents if parent.name
    }
    return sorted(folders)


def describe_package(path: str) -> str:
    """Say what a folder holds: ``envoyapi/type/v3`` has ``envoy.type.v3`` of the wire."""
    package, _, rest = path.partition("/")
    text, on_the_wire = PACKAGES[package]
    return f"{text}: {'.'.join([on_the_wire, *filter(None, rest.split('/'))])}"


def find_modules(files: Iterable[FileDescriptorProto]) -> dict[str, tuple[str, str]]:
    """Map each top-level message (``.package.Name``) to its Python package and module."""
    modules = {}
    for file in files:
        package, _, name = file.name.removesuffix(".proto").rpartition("/")
        for message in file.message_type:
            modules[f".{file.package}.{message.name}"] = (package.replace("/", "."), f"{name}_pb2")
    return modules


def render_grpc_stub(file: FileDescriptorProto, modules: Mapping[str, tuple[str, str]]) -> str:
    """Render the grpc.aio types of the services of one file.

    mypy-protobuf has such a plugin, but its streaming handlers can only be async generators, and
    it types ``context.read()`` and ``context.write()`` with iterators. Reading and writing through
    the context is the faster of the two ways that grpc.aio offers, so both are typed here.
    """
    used = {
        modules[name]
        for service in file.service
        for method in service.method
        for name in (method.input_type, method.output_type)
    }
    lines = [
        '"""Types of the generated module for grpc.aio. Written by proto/generate.py."""',
        "",
        "from collections.abc import AsyncIterator, Awaitable",
        "",
        "from grpc import aio",
        "",
        *(f"from {package} import {module}" for package, module in sorted(used)),
    ]
    for service in file.service:
        lines += ["", *render_service(service, modules)]
    return "\n".join(lines) + "\n"


def render_service(
    service: ServiceDescriptorProto, modules: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Render the client class, the servicer base and the registration of one service."""
    stub, servicer = f"{service.name}Stub", f"{service.name}Servicer"
    calls, handlers = [], []
    for method in service.method:
        request, response = (
            f"{modules[name][1]}.{name.rpartition('.')[2]}"
            for name in (method.input_type, method.output_type)
        )
        calls.append(f"    {method.name}: aio.{call_kind(method)}[{request}, {response}]")
        argument = (
            f"request_iterator: AsyncIterator[{request}]"
            if method.client_streaming
            else f"request: {request}"
        )
        result = (
            f"AsyncIterator[{response}] | Awaitable[None]"
            if method.server_streaming
            else f"Awaitable[{response}]"
        )
        handlers += [
            f"    def {method.name}(",
            "        self,",
            f"        {argument},",
            f"        context: aio.ServicerContext[{request}, {response}],",
            f"    ) -> {result}: ...",
        ]
    return [
        f"class {stub}:",
        *calls,
        "    def __init__(self, channel: aio.Channel) -> None: ...",
        "",
        f"class {servicer}:",
        *handlers,
        "",
        f"def add_{servicer}_to_server(servicer: {servicer}, server: aio.Server) -> None: ...",
    ]


def call_kind(method: MethodDescriptorProto) -> str:
    """Name the grpc.aio class of a client call."""
    request = "Stream" if method.client_streaming else "Unary"
    response = "Stream" if method.server_streaming else "Unary"
    return f"{request}{response}MultiCallable"


if __name__ == "__main__":
    raise SystemExit(main())
