"""What can be tried without a configuration: the files of `ringback up` and of docker compose."""

from pathlib import Path

from extauthz.catalogue import Catalogue
from extauthz.litellm import load_config
from ringback.cli.demo import MODELS, write_demo
from ringback.render.bootstrap import Address

COMPOSE = Path(__file__).parents[2] / "deploy/compose/litellm.yaml"


def test_who_names_no_model_talks_to_the_first(tmp_path: Path) -> None:
    """The key alone is enough for the playground: just one of the models is a default."""
    demo = write_demo(tmp_path, Address("127.0.0.1", 8090))
    environ = {name: secret.reveal() for name, secret in demo.environ.items()}
    for file in (demo.config, COMPOSE):
        catalogue = Catalogue(load_config(file, environ))
        assert catalogue.groups == MODELS
        assert catalogue.only_realtime_group() == MODELS[0]
