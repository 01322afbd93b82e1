"""What the target ``envoy-gateway`` wants to know beside the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from ringback.render.apart import ApartValues
from ringback.render.values import Name

Domain = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]


class EnvoyGatewayValues(ApartValues):
    """What can be set."""

    gateway_class: Name = "eg"
    """GatewayClass of Envoy Gateway."""

    tls_secret: Name | Literal[""] = "ringback-tls"
    """Secret with the certificate of the listener. Empty: HTTP on port 80, behind something that
    ends TLS."""

    upstream_ca: Name | Literal[""] = ""
    """ConfigMap whose ca.crt may vouch for upstreams. Empty: the authorities of the images."""

    plaintext: bool = False
    """No certificates between Envoy and the services, because a mesh does mTLS there."""

    trust_domain: Domain = "cluster.local"
    """Of the SPIFFE ids in the certificates of Envoy and of the services."""

    cluster_domain: Domain = "cluster.local"
    """Domain of the cluster's Services."""

    envoy_namespace: Name = "envoy-gateway-system"
    """Namespace in which Envoy Gateway runs the Envoy of the Gateway."""
