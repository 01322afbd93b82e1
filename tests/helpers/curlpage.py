"""The lines with curl of a page, and the answers that stand below them."""

import asyncio
import os
import re
from collections.abc import Mapping


async def check_page(page: str, environ: Mapping[str, str], **replaced: str) -> int:
    """Run each line of a page that begins with ``$ curl``, and compare what it prints.

    Args:
        page: Its text. Below a line is the answer, with ``...`` for whatever may stand there.
        environ: Variables that the lines use.
        replaced: ``old`` and ``new``: what a line says and what is taken instead.

    Returns:
        How many lines there were.
    """
    lines = page.splitlines()
    pairs = [(line[2:], lines[at + 1]) for at, line in enumerate(lines) if line[:6] == "$ curl"]
    for command, expected in pairs:
        process = await asyncio.create_subprocess_shell(
            command.replace(replaced["old"], replaced["new"]) if replaced else command,
            env={"PATH": os.environ["PATH"], **environ},
            stdout=asyncio.subprocess.PIPE,
        )
        answer, _ = await process.communicate()
        pattern = ".*".join(map(re.escape, expected.split("...")))
        assert re.fullmatch(pattern, answer.decode().strip()), f"{command}: {answer.decode()}"
    return len(pairs)
