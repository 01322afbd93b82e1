"""What an entry of ``model_list`` says about when its deployment is chosen, and for whom. Pure."""

from typing import Any, Final

from extauthz.fields import Field

_NOT_USED: Final = ("max_parallel_requests",)


def parse_routing(entry: Field) -> dict[str, Any]:
    """Return fields of `extauthz.deployments.Deployment` by name; mistakes are noted in the entry.

    Args:
        entry: One of ``model_list``.
    """
    params, info = entry.child("litellm_params"), entry.child("model_info")
    return {
        "weight": params.child("weight").amount(),
        "rpm": params.child("rpm").amount(),
        "tpm": params.child("tpm").amount(),
        "order": params.child("order").amount(),
        "num_retries": params.child("num_retries").count(),
        "cooldown_s": params.child("cooldown_time").amount(),
        "access_groups": _names(info.child("access_groups")),
        "team": info.child("team_id").text(),
        "blocked": info.child("blocked").flag(),
    }


def parse_group(entry: Field) -> str:
    """Return the name under which callers find an entry, ``""`` after noting why there is none.

    A team's own deployment has one of its own for them, ``model_info.team_public_model_name``.
    """
    name = entry.child("model_name").required_text("write the name that callers shall use")
    info = entry.child("model_info")
    if info.child("team_id").value:
        return info.child("team_public_model_name").text() or name
    return name


def unused_routing(entry: Field) -> list[str]:
    """Return a note for each field that an operator might count on in vain."""
    params = entry.child("litellm_params")
    fields = (params.child(name) for name in _NOT_USED)
    return [f"{field.place}: not used by this version" for field in fields if field.value]


def _names(field: Field) -> tuple[str, ...]:
    names = [
        item.required_text("write the name of a group, or remove it") for item in field.items()
    ]
    return tuple(name for name in names if name)
