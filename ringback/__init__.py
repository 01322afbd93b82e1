"""What extauthz and sdpfilter share: names that meet in Envoy, settings, tokens, servers, logs."""

__version__ = "0.1.0"
