"""TLS to upstreams, where no Envoy of ours does it."""

import ssl

from ringback.settings import UpstreamSettings


def upstream_tls(upstream: UpstreamSettings) -> ssl.SSLContext:
    """Return what demands of an upstream the same as Envoy's clusters do.

    Raises:
        OSError: If ``upstream.ca_file`` cannot be read, or has no certificate.
        ValueError: If it cannot be a path.
    """
    context = ssl.create_default_context(cafile=upstream.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A name counts only as subject alternative name (RFC 9110 section 4.3.4).
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context
