"""``model_list`` of LiteLLM's configuration, one entry at a time, as deployments."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from extauthz.deployments import REALTIME_MODE, Deployment, Origin
from extauthz.fields import Field
from extauthz.modelentry import notes_of, parse_entry, reason_to_skip, split_model
from extauthz.namedcredentials import NamedCredentials
from extauthz.priceentry import parse_prices
from extauthz.routingentry import parse_group, parse_routing, unused_routing


class ModelList:
    """Collects the deployments of all files, and what is wrong with the entries.

    Attributes:
        deployments: The usable ones so far.
        group_names: Every ``model_name`` seen, usable or not.
        notes: Entries and fields that are not used, and why.
        problems: Mistakes.

    Args:
        credentials: Those that entries may refer to.
    """

    def __init__(self, credentials: NamedCredentials | None = None) -> None:
        self._credentials = credentials or NamedCredentials()
        self.deployments: list[Deployment] = []
        self.group_names: set[str] = set()
        self.notes: list[str] = []
        self.problems: list[str] = []
        self._ids: set[str] = set()
        self._same: Counter[str] = Counter()
        self._clusters: dict[str, Origin] = {}

    def add(self, value: Any, place: str, environ: Mapping[str, str]) -> None:
        """Read one entry; what can be served joins the deployments.

        Args:
            value: The entry.
            place: Where it stands.
            environ: What ``os.environ/NAME`` refers to.
        """
        entry = Field(value, place, [], environ)
        entry.entries()
        entry = self._credentials.fill(entry)
        group = parse_group(entry)
        provider, upstream_model = split_model(entry)
        self.group_names.add(group)
        if reason := reason_to_skip(entry, group, provider, upstream_model):
            self.notes.append(f"{place}: not used: {reason}")
            return
        if provider is not None:
            further = {**parse_routing(entry), **parse_prices(entry)}
            deployment = parse_entry(entry, group, provider, upstream_model)
            if deployment is not None:
                self._join(replace(deployment, **further), entry)
                self.notes += notes_of(entry, deployment)
        self._note_mistakes(entry, upstream_model)
        self.notes += unused_routing(entry)

    def _join(self, deployment: Deployment, entry: Field) -> None:
        if not deployment.id:
            fingerprint = _fingerprint(deployment)
            self._same[fingerprint] += 1
            number = self._same[fingerprint]
            suffix = "" if number == 1 else f"-{number}"
            deployment = replace(deployment, id=f"d-{fingerprint}{suffix}")
        if deployment.id in self._ids:
            entry.child("model_info").child("id").problem("another deployment has this id")
        if any(self._clusters.setdefault(o.cluster, o) != o for o in deployment.origins):
            entry.child("litellm_params").child("api_base").problem(
                "its host differs from another deployment's only in punctuation, which Envoy's "
                "cluster names do not keep; rename one of the hosts"
            )
        if not entry.problems:
            self._ids.add(deployment.id)
            self.deployments.append(deployment)

    def _note_mistakes(self, entry: Field, upstream_model: str) -> None:
        """Count mistakes in what is surely not for voice as notes: they harm nobody here."""
        mode = entry.child("model_info").child("mode").value
        is_other = isinstance(mode, str) and mode != REALTIME_MODE
        if is_other and REALTIME_MODE not in upstream_model.lower():
            reason = "not served, since its mode is not realtime"
            self.notes += [f"{problem}; {reason}" for problem in entry.problems]
        else:
            self.problems += entry.problems


def _fingerprint(deployment: Deployment) -> str:
    """Return what stays the same as long as a deployment is the same model at the same place.

    NOTE: Keys, weights and deadlines are left out, so that changing them on a reload does not end
    the tokens that are pinned to the deployment.
    """
    identity = (
        deployment.model_name,
        deployment.provider,
        deployment.upstream_model,
        str(deployment.origin),
        deployment.base_path,
        deployment.organization,
        deployment.project,
    )
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
