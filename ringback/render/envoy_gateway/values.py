"""What the target ``envoy-gateway`` wants to know beside the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from ringback.render.values import Name, Ports, Values, Variables

Domain = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]


class EnvoyGatewayValues(Values):
    """What can be set."""

    gateway_class: Name = "eg"
    """GatewayClass of Envoy Gateway."""

    tls_secret: Name | Literal[""] = "ringback-tls"
    """Secret with the certificate of the listener. Empty: HTTP on port 80, behind something that
    ends TLS."""

    upstream_ca: Name | Literal[""] = ""
    """ConfigMap whose ca.crt may vouch for upstreams. Empty: the authorities of the images."""

    image: str = "registry.example.com/ringback/services:0.1.0"
    """Image of extauthz and sdpfilter: `docker build --target services`."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    """Pods of each service, each with one worker."""

    secret: Name = "ringback-secrets"
    """Name of the Secret whose keys are the variables that the configuration needs."""

    secrets: Variables = ()
    """Further variables of that Secret: RINGBACK_STORE__URL,RINGBACK_DATABASE__URL."""

    config_secret: Name | Literal[""] = ""
    """Name of a Secret with the key litellm.yaml, for a configuration that holds secrets."""

    keys_secret: Name | Literal[""] = ""
    """Name of a Secret with the key keys.yaml, a key file."""

    plaintext: bool = False
    """No certificates between Envoy and the services, because a mesh does mTLS there."""

    trust_domain: Domain = "cluster.local"
    """Of the SPIFFE ids in the certificates of Envoy and of the services."""

    cluster_domain: Domain = "cluster.local"
    """Domain of the cluster's Services."""

    envoy_namespace: Name = "envoy-gateway-system"
    """Namespace in which Envoy Gateway runs the Envoy of the Gateway."""

    monitoring_namespace: Name = "monitoring"
    """Namespace from which Prometheus may come."""

    egress_ports: Ports = ()
    """Further ports that extauthz may connect to: 5432 for Postgres, 6379 for Valkey."""
