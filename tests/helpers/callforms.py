"""Forms as clients of ``calls`` send them, well-made or not."""

from typing import Final

BOUNDARY: Final = "----formdata-7MA4YWxkTrZu0gW"
CONTENT_TYPE: Final = f"multipart/form-data; boundary={BOUNDARY}"


def part(
    name: str,
    content: bytes,
    content_type: str | None = None,
    *,
    filename: str | None = None,
    extra: str = "",
) -> bytes:
    """Return one part of a form, headers and content."""
    head = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"'
    head += "\r\n"
    if content_type is not None:
        head += f"Content-Type: {content_type}\r\n"
    return f"{head}{extra}\r\n".encode() + content


def form(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    """Return the body of a form."""
    return b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), content) for content in parts) + (
        b"--%s--\r\n" % boundary.encode()
    )
