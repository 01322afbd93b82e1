"""What Envoy Gateway makes of manifests: Envoy's configuration, as its translator would write it.

Follows ``internal/gatewayapi`` and ``internal/xds/translator`` of envoyproxy/gateway (Apache-2.0)
at v1.9, for the kinds and fields that `ringback render envoy-gateway` writes; a field that is not
known here is an error, so that none is passed over. What the real one serves over xDS stands in a
static bootstrap instead: endpoints of Services, certificates, routes. Its checks of what it would
refuse (a Backend on loopback, for example) are left out.
"""
